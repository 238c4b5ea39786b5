#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/measure.h"
#include "topology/bus_id.h"
#include "topology/doctor.h"

namespace tprun {
namespace {

// CUDA's number of each GPU of the topology, by its index there. Those CUDA does not show become a
// note.
std::map<int, int> Ordinals(const std::vector<ProbedGpu>& probed, Topology& topology) {
  std::map<std::string, int> by_bus;
  for (const ProbedGpu& gpu : probed) by_bus[NormalBusId(gpu.pci_bus_id)] = gpu.ordinal;
  std::map<int, int> ordinals;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.kind != DeviceKind::kGpu) continue;
    const auto found = by_bus.find(NormalBusId(device.pci_bus_id));
    if (found != by_bus.end()) {
      ordinals[static_cast<int>(i)] = found->second;
    } else {
      topology.notes.push_back(
          absl::StrCat(device.id, " was not measured: CUDA shows no GPU at ", device.pci_bus_id));
    }
  }
  return ordinals;
}

Link& LinkOf(int a, int b, Topology& topology) {
  for (Link& link : topology.links) {
    if ((link.a == a && link.b == b) || (link.a == b && link.b == a)) return link;
  }
  Link link;
  link.a = a;
  link.b = b;
  topology.links.push_back(std::move(link));
  return topology.links.back();
}

void ApplyRates(const GpuRates& rates, DeviceInfo& gpu) {
  gpu.measured.memory_bandwidth_bytes_per_s = rates.memory_bandwidth_bytes_per_s;
  gpu.measured.host_to_device_bytes_per_s = rates.host_to_device_bytes_per_s;
  gpu.measured.device_to_host_bytes_per_s = rates.device_to_host_bytes_per_s;
  gpu.measured.matmul_ops_per_s = rates.matmul_ops_per_s;
}

// Both directions of a pair. What the driver said of why it is not possible stays. How fast data
// arrive that are wrong is no figure to plan with.
void ApplyPeers(const PeerRates& there, const PeerRates& back, Link& link) {
  link.peer_access_verified = there.verified && back.verified;
  const bool broken = there.possible && back.possible && !link.peer_access_verified;
  link.measured_bandwidth_bytes_per_s =
      broken ? 0 : std::min(there.bandwidth_bytes_per_s, back.bandwidth_bytes_per_s);
  link.measured_latency_s = broken ? 0 : std::max(there.latency_s, back.latency_s);
  if (link.peer_access_verified) {
    link.peer_access = PeerAccess::kYes;
    link.peer_access_reason.clear();
    return;
  }
  link.peer_access = PeerAccess::kNo;
  const PeerRates& failed = there.verified ? back : there;
  if (broken) {
    link.peer_access_reason = absl::StrCat(kPeerAccessBroken, failed.problem);
  } else if (link.peer_access_reason.empty()) {
    link.peer_access_reason =
        failed.problem.empty() ? "CUDA offers no peer access between the two" : failed.problem;
  }
}

void MeasurePairs(DeviceProbe& probe, const std::map<int, int>& ordinals, Topology& topology) {
  for (const auto& [a, from] : ordinals) {
    for (const auto& [b, to] : ordinals) {
      if (a >= b) continue;
      const absl::StatusOr<PeerRates> there = probe.MeasurePeer(from, to);
      const absl::StatusOr<PeerRates> back = probe.MeasurePeer(to, from);
      if (there.ok() && back.ok()) {
        ApplyPeers(*there, *back, LinkOf(a, b, topology));
        continue;
      }
      const absl::Status& failed = there.ok() ? back.status() : there.status();
      topology.notes.push_back(
          absl::StrCat(topology.devices[a].id, " - ", topology.devices[b].id,
                       " was not measured: ", absl::string_view(failed.message())));
    }
  }
}

}  // namespace

void MeasureGpus(DeviceProbe& probe, Topology& topology,
                 const std::function<void(const std::string&)>& tell) {
  const absl::StatusOr<std::vector<ProbedGpu>> gpus = probe.Gpus();
  if (!gpus.ok()) {
    topology.notes.push_back(
        absl::StrCat("no GPU was measured: ", absl::string_view(gpus.status().message())));
    return;
  }
  const std::map<int, int> ordinals = Ordinals(*gpus, topology);
  for (const auto& [index, ordinal] : ordinals) {
    DeviceInfo& gpu = topology.devices[index];
    tell(absl::StrCat(gpu.id, ": memory, matrix products, copies"));
    const absl::StatusOr<GpuRates> rates = probe.MeasureGpu(ordinal);
    if (rates.ok()) {
      ApplyRates(*rates, gpu);
    } else {
      topology.notes.push_back(
          absl::StrCat(gpu.id, " was not measured: ", absl::string_view(rates.status().message())));
    }
  }
  if (ordinals.size() > 1) tell("every two GPUs: peer access, bandwidth, latency");
  MeasurePairs(probe, ordinals, topology);
}

void VerifyPeerAccess(DeviceProbe& probe, Topology& topology) {
  const absl::StatusOr<std::vector<ProbedGpu>> gpus = probe.Gpus();
  if (gpus.ok()) MeasurePairs(probe, Ordinals(*gpus, topology), topology);
}

}  // namespace tprun
