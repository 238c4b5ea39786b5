#include "partition/candidates.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "partition/layout_search.h"

namespace tprun {
namespace {

// More equal hosts than hold the model so many times over are never of use to one instance of it.
constexpr double kSpareHosts = 1.5;

struct HostGroup {                             // equal hosts
  std::vector<std::pair<int, int>> instances;  // host and copy
  int64_t gpu_bytes = 0;                       // of one
  double bandwidth = 0;                        // of all devices of one
  int devices = 0;
};

// Bytes that the whole model needs on one device.
int64_t WholeModelBytes(const PlanRequest& request) {
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(request.spec->blocks.size()); ++block) {
    placements.push_back({.ranks = {0}, .shares = {UnitsOf(*request.spec, block).count}});
  }
  return LayOutMemory(*request.spec, placements, 0, request.options).total_bytes();
}

std::string Signature(const DeviceInfo& device) {
  return absl::StrCat(device.name, ",", device.available_bytes, ",", MemoryBandwidth(device), ",",
                      OverheadSignature(device), ";");
}

std::vector<HostGroup> GroupHosts(const PlanRequest& request) {
  const Topology& topology = *request.topology;
  std::vector<HostGroup> hosts(topology.hosts.size());
  std::vector<std::string> signatures(topology.hosts.size());
  for (const DeviceInfo& device : topology.devices) {
    HostGroup& group = hosts[device.host];
    absl::StrAppend(&signatures[device.host], Signature(device));
    ++group.devices;
    group.bandwidth += MemoryBandwidth(device);
    if (device.kind == DeviceKind::kGpu) {
      group.gpu_bytes += UsableBytes(device, device.id, request.limits);
    }
  }
  std::map<std::string, HostGroup> groups;
  for (int host = 0; host < static_cast<int>(topology.hosts.size()); ++host) {
    HostGroup& known = groups.emplace(signatures[host], hosts[host]).first->second;
    for (int copy = 0; copy < topology.hosts[host].count; ++copy) {
      known.instances.emplace_back(host, copy);
    }
  }
  std::vector<HostGroup> result;
  for (auto& [signature, group] : groups) result.push_back(std::move(group));
  std::stable_sort(result.begin(), result.end(), [](const HostGroup& a, const HostGroup& b) {
    return a.bandwidth > b.bandwidth;
  });
  return result;
}

// The hosts whose devices are candidates.
std::set<std::pair<int, int>> ChooseHosts(const PlanRequest& request, int64_t model_bytes) {
  std::set<std::pair<int, int>> chosen;
  int devices = 0;
  for (const HostGroup& group : GroupHosts(request)) {
    int64_t needed = static_cast<int64_t>(group.instances.size());
    if (group.gpu_bytes > 0) {
      const double hosts = kSpareHosts * static_cast<double>(model_bytes) / group.gpu_bytes;
      needed = std::min(needed, static_cast<int64_t>(hosts) + 2);
    }
    for (int64_t i = 0; i < needed && devices + group.devices <= kMostDevices; ++i) {
      chosen.insert(group.instances[i]);
      devices += group.devices;
    }
  }
  return chosen;
}

absl::StatusOr<std::vector<DeviceRef>> NamedDevices(const PlanRequest& request) {
  std::vector<DeviceRef> refs;
  for (const std::string& id : request.devices) {
    ASSIGN_OR_RETURN(const DeviceRef ref, LocateDevice(*request.topology, id));
    refs.push_back(ref);
  }
  if (refs.size() <= kMostDevices || !request.shares.empty()) return refs;
  return absl::InvalidArgumentError(
      absl::StrCat("--devices: layouts are searched for at most ", kMostDevices, " ranks, found ",
                   refs.size(), "; give --shares, or no devices to let the planner choose"));
}

void AddDevice(const PlanRequest& request, DeviceRef ref, int sharing,
               std::map<std::pair<int, int>, int>& hosts, Candidates& candidates) {
  const DeviceInfo& info = request.topology->devices[ref.device];
  SearchDevice device;
  device.id = DeviceId(*request.topology, ref);
  device.info = &info;
  device.host =
      hosts.emplace(std::make_pair(info.host, ref.instance), static_cast<int>(hosts.size()))
          .first->second;
  device.usable_bytes = UsableBytes(info, device.id, request.limits, sharing);
  candidates.devices.push_back(std::move(device));
  candidates.refs.push_back(ref);
  candidates.rates.push_back(RatesOf(info, sharing));
}

// The GPU with the most room, else the first device.
int RoomiestDevice(const Candidates& candidates) {
  int best = 0;
  for (int i = 0; i < static_cast<int>(candidates.devices.size()); ++i) {
    const SearchDevice& device = candidates.devices[i];
    const SearchDevice& so_far = candidates.devices[best];
    const bool gpu = device.info->kind == DeviceKind::kGpu;
    const bool best_gpu = so_far.info->kind == DeviceKind::kGpu;
    if (gpu != best_gpu ? gpu : device.usable_bytes > so_far.usable_bytes) best = i;
  }
  return best;
}

// Where each sidecar runs, and what that takes of devices.
void PlaceSidecars(const PlanRequest& request, Candidates& candidates) {
  if (request.spec->sidecars.empty()) return;
  const int roomiest = RoomiestDevice(candidates);
  const auto cpu = std::find_if(
      candidates.devices.begin(), candidates.devices.end(),
      [](const SearchDevice& device) { return device.info->kind == DeviceKind::kCpu; });
  for (const Sidecar& sidecar : request.spec->sidecars) {
    int device = roomiest;
    if (request.sidecars_on_cpu && sidecar.may_run_on_cpu) {
      device = cpu == candidates.devices.end() ? kNoCandidate
                                               : static_cast<int>(cpu - candidates.devices.begin());
    }
    candidates.sidecar_devices.push_back(device);
    if (device != kNoCandidate) candidates.devices[device].usable_bytes -= sidecar.bytes;
  }
}

void Complete(const PlanRequest& request, Candidates& candidates) {
  candidates.exchanges =
      std::make_unique<TopologyExchanges>(*request.topology, candidates.refs, request.coefficients);
  candidates.classes = ClassesOf(candidates.devices, candidates.rates, *candidates.exchanges,
                                 request.devices.empty() ? -1 : 0);
}

}  // namespace

absl::StatusOr<Candidates> MakeCandidates(const PlanRequest& request) {
  const Topology& topology = *request.topology;
  Candidates candidates;
  std::vector<DeviceRef> refs;
  if (!request.devices.empty()) {
    ASSIGN_OR_RETURN(refs, NamedDevices(request));
  } else {
    const std::set<std::pair<int, int>> hosts = ChooseHosts(request, WholeModelBytes(request));
    const std::vector<DeviceRef> all = AllDeviceRefs(topology);
    for (const DeviceRef& ref : all) {
      const DeviceInfo& info = topology.devices[ref.device];
      if (hosts.count({info.host, ref.instance}) > 0) refs.push_back(ref);
    }
    if (refs.empty()) return absl::InvalidArgumentError("no devices to plan for");
    if (refs.size() < all.size()) {
      candidates.notes.push_back(absl::StrCat(refs.size(), " of ", all.size(),
                                              " devices were looked at: of equal hosts as many as "
                                              "the model could use"));
    }
    // GPUs first: they come first in plans.
    std::stable_sort(refs.begin(), refs.end(), [&](const DeviceRef& a, const DeviceRef& b) {
      return topology.devices[a.device].kind > topology.devices[b.device].kind;
    });
  }
  std::map<std::pair<int, int>, int> hosts;
  for (const DeviceRef& ref : refs) {
    const auto sharing = std::count(refs.begin(), refs.end(), ref);
    AddDevice(request, ref, static_cast<int>(sharing), hosts, candidates);
  }
  PlaceSidecars(request, candidates);
  Complete(request, candidates);
  return candidates;
}

Candidates Subset(const PlanRequest& request, const Candidates& all,
                  const std::vector<int>& members) {
  Candidates part;
  for (int device : all.sidecar_devices) {
    const auto at = std::find(members.begin(), members.end(), device);
    part.sidecar_devices.push_back(at == members.end() ? kNoCandidate
                                                       : static_cast<int>(at - members.begin()));
  }
  for (int member : members) {
    part.devices.push_back(all.devices[member]);
    part.refs.push_back(all.refs[member]);
    part.rates.push_back(all.rates[member]);
  }
  Complete(request, part);
  return part;
}

Candidates WithLess(const PlanRequest& request, const Candidates& all,
                    const std::map<std::string, int64_t>& less) {
  std::vector<int> members(all.devices.size());
  std::iota(members.begin(), members.end(), 0);
  Candidates candidates = Subset(request, all, members);
  candidates.notes = all.notes;
  for (SearchDevice& device : candidates.devices) {
    const auto bytes = less.find(device.id);
    if (bytes == less.end()) continue;
    device.usable_bytes = std::max<int64_t>(0, device.usable_bytes - bytes->second);
  }
  Complete(request, candidates);  // their classes are others
  return candidates;
}

}  // namespace tprun
