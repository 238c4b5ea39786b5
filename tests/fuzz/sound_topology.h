#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/status/statusor.h"
#include "topology/topology.h"

namespace tprun {

// What every reader promises of whatever it reads: a reason, or a Topology whose indices are right.
// "" where that holds, else what is wrong.
inline std::string FindUnsound(const absl::StatusOr<Topology>& topology) {
  if (!topology.ok()) return topology.status().message().empty() ? "no reason is given" : "";
  const int devices = static_cast<int>(topology->devices.size());
  const int hosts = static_cast<int>(topology->hosts.size());
  const auto is_device = [devices](int index) { return index >= 0 && index < devices; };
  for (const DeviceInfo& device : topology->devices) {
    if (device.host < 0 || device.host >= hosts) return "a device of no host";
    if (device.memory_bytes < 0 || device.available_bytes < 0) return "negative memory";
  }
  for (const Link& link : topology->links) {
    if (!is_device(link.a) || !is_device(link.b) || link.a == link.b) return "a link of no devices";
    if (!(link.bandwidth_bytes_per_s >= 0) || link.count < 0) return "a negative link";
  }
  for (const Nic& nic : topology->nics) {
    if (nic.host < 0 || nic.host >= hosts) return "a NIC of no host";
    for (const auto& [device, kind] : nic.gpu_paths) {
      if (!is_device(device)) return "a path to no device";
    }
  }
  return "";
}

// Ends the program when it does not hold, as fuzzers expect.
inline void CheckSound(const absl::StatusOr<Topology>& topology) {
  const std::string wrong = FindUnsound(topology);
  if (wrong.empty()) return;
  std::fprintf(stderr, "unsound topology: %s\n", wrong.c_str());
  std::abort();
}

}  // namespace tprun
