#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "topology/topology.h"

namespace tprun {

// This machine without its GPUs: the host, its "cpu" device, and notes. `root` is put in front of
// /proc and /sys for everything but the processors, which hwloc reads (tests have their own).
struct DetectedHost {
  Host host;
  DeviceInfo cpu;
  std::vector<std::string> notes;
};
absl::StatusOr<DetectedHost> DetectHost(const std::string& root = "");

// What the memory of a CPU may reach when nobody measured it, by its name, cores and isa.
double EstimateCpuBandwidth(const DeviceInfo& cpu, int packages);

}  // namespace tprun
