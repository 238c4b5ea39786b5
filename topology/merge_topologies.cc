#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/merge_devices.h"
#include "topology/nvidia_smi_text.h"
#include "topology/nvlink_switch.h"
#include "topology/source.h"

namespace tprun {
namespace {

// NVLink, C2C, PCIe and network are different links between the same two devices.
enum class LinkClass { kNvlink, kC2c, kPcie, kNetwork };

LinkClass ClassOf(LinkKind kind) {
  if (kind == LinkKind::kNvlink) return LinkClass::kNvlink;
  if (kind == LinkKind::kC2c) return LinkClass::kC2c;
  return kind == LinkKind::kNetwork ? LinkClass::kNetwork : LinkClass::kPcie;
}

// Says nothing but whether the two reach each other.
bool IsBare(const Link& link) {
  return link.kind == LinkKind::kPcie && link.bandwidth_bytes_per_s == 0 && link.latency_s == 0 &&
         link.measured_bandwidth_bytes_per_s == 0;
}

// A column of `topo -m` without a legend, "NIC3": no name of a device.
bool IsUnnamed(const Nic& nic) {
  return nic.pci_bus_id.empty() && absl::StartsWith(nic.name, "NIC");
}

class Merger {
 public:
  explicit Merger(Topology first) : result_(std::move(first)) {
    for (size_t i = 0; i < result_.links.size(); ++i) {
      link_index_.insert({KeyOf(result_.links[i]), i});
    }
  }

  absl::Status Add(const Topology& other) {
    ASSIGN_OR_RETURN(host_map_, MapHosts(other));
    for (size_t i = 0; i < other.hosts.size(); ++i) {
      MergeHost(other.hosts[i], result_.hosts[host_map_[i]]);
    }
    MapDevices(other);
    for (const Link& link : other.links) AddLink(link);
    AddNics(other);
    for (const Fabric& fabric : other.fabrics) AddFabric(fabric);
    const std::set<std::string> known(result_.notes.begin(), result_.notes.end());
    for (const std::string& note : other.notes) {
      if (!known.count(note)) result_.notes.push_back(note);
    }
    if (!other.source.empty()) {
      absl::StrAppend(&result_.source, result_.source.empty() ? "" : ", ", other.source);
    }
    return absl::OkStatus();
  }

  Topology Finish() {
    SpreadPeerAccess();
    DropBareLinks();
    MarkSwitchedLinks(result_);
    PutCpusFirst();
    NumberDistinctly();
    return std::move(result_);
  }

 private:
  absl::StatusOr<std::vector<int>> MapHosts(const Topology& other) const {
    if (other.hosts.size() == 1 && result_.hosts.size() == 1) return std::vector<int>{0};
    std::map<std::string, int> by_name;
    for (size_t i = 0; i < result_.hosts.size(); ++i) {
      by_name[result_.hosts[i].name] = static_cast<int>(i);
    }
    std::vector<int> map;
    for (const Host& host : other.hosts) {
      const auto found = by_name.find(host.name);
      if (found == by_name.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("cannot merge ", other.source, " with ", result_.source,
                         ": wanted the same hosts, found ", host.name, " in the first only"));
      }
      map.push_back(found->second);
    }
    return map;
  }

  void MergeHost(const Host& other, Host& mine) {
    if (mine.name == kUnnamedHost) {
      mine.name = other.name;
    } else if (other.name != kUnnamedHost && other.name != mine.name) {
      result_.notes.push_back(absl::StrCat("the host is called ", mine.name, " and ", other.name,
                                           "; are these the same machine?"));
    }
    if (mine.memory_bytes == 0) mine.memory_bytes = other.memory_bytes;
    if (mine.available_bytes == 0) mine.available_bytes = other.available_bytes;
    mine.software.insert(other.software.begin(), other.software.end());
    std::map<int, size_t> by_id;
    for (size_t i = 0; i < mine.numa_nodes.size(); ++i) by_id[mine.numa_nodes[i].id] = i;
    for (const NumaNode& node : other.numa_nodes) {
      const auto found = by_id.find(node.id);
      if (found == by_id.end()) {
        mine.numa_nodes.push_back(node);
        continue;
      }
      NumaNode& known = mine.numa_nodes[found->second];
      if (known.memory_bytes == 0) known.memory_bytes = node.memory_bytes;
      if (known.available_bytes == 0) known.available_bytes = node.available_bytes;
      if (known.cpus.empty()) known.cpus = node.cpus;
      if (known.package < 0) known.package = node.package;
    }
  }

  // The GPUs of each host of `topology` (in the numbering of hosts of result_), as indices.
  static std::map<int, std::vector<int>> GpusByHost(const Topology& topology,
                                                    const std::vector<int>& host_map) {
    std::map<int, std::vector<int>> gpus;
    for (size_t i = 0; i < topology.devices.size(); ++i) {
      const DeviceInfo& device = topology.devices[i];
      if (device.kind != DeviceKind::kGpu) continue;
      gpus[host_map.empty() ? device.host : host_map[device.host]].push_back(static_cast<int>(i));
    }
    return gpus;
  }

  void MapDevices(const Topology& other) {
    device_map_.assign(other.devices.size(), -1);
    std::map<int, int> cpus;
    for (size_t i = 0; i < result_.devices.size(); ++i) {
      const DeviceInfo& device = result_.devices[i];
      if (device.kind == DeviceKind::kCpu) cpus[device.host] = static_cast<int>(i);
    }
    for (size_t i = 0; i < other.devices.size(); ++i) {
      const DeviceInfo& device = other.devices[i];
      if (device.kind != DeviceKind::kCpu) continue;
      const auto found = cpus.find(host_map_[device.host]);
      Join(other, static_cast<int>(i), found == cpus.end() ? kNewGpu : found->second);
    }
    std::map<int, std::vector<int>> mine = GpusByHost(result_, {});
    for (const auto& [host, theirs] : GpusByHost(other, host_map_)) {
      MapGpus(other, theirs, mine[host]);
    }
  }

  void MapGpus(const Topology& other, const std::vector<int>& theirs,
               const std::vector<int>& mine) {
    std::vector<const DeviceInfo*> their_gpus, my_gpus;
    for (const int i : theirs) their_gpus.push_back(&other.devices[i]);
    for (const int i : mine) my_gpus.push_back(&result_.devices[i]);
    bool by_index = false;
    const std::vector<int> joined = mine.empty() ? std::vector<int>(theirs.size(), kNewGpu)
                                                 : JoinGpus(their_gpus, my_gpus, by_index);
    int unknown = 0;
    for (size_t i = 0; i < theirs.size(); ++i) {
      unknown += joined[i] == kUnknownGpu;
      Join(other, theirs[i], joined[i] < 0 ? joined[i] : mine[joined[i]]);
    }
    if (by_index) {
      result_.notes.push_back(
          absl::StrCat("the GPUs of ", other.source, " are joined with those of ", result_.source,
                       " by their index: they have no UUID or bus id in common"));
    }
    if (unknown > 0) {
      result_.notes.push_back(absl::StrCat(unknown, " of ", theirs.size(), " GPUs of ",
                                           other.source, " are left out: no UUID, bus id ",
                                           "or index tells which of the ", mine.size(), " GPUs of ",
                                           result_.source, " they are"));
    }
  }

  void Join(const Topology& other, int theirs, int mine) {
    if (mine == kUnknownGpu) return;
    const DeviceInfo& device = other.devices[theirs];
    if (mine == kNewGpu) {
      device_map_[theirs] = static_cast<int>(result_.devices.size());
      result_.devices.push_back(device);
      result_.devices.back().host = host_map_[device.host];
      return;
    }
    device_map_[theirs] = mine;
    MergeDevice(device, other.source, result_.devices[mine], result_.notes);
  }

  using LinkKey = std::tuple<int, int, LinkClass>;
  static LinkKey KeyOf(const Link& link) {
    return {std::min(link.a, link.b), std::max(link.a, link.b), ClassOf(link.kind)};
  }

  void AddLink(Link link) {
    link.a = device_map_[link.a];
    link.b = device_map_[link.b];
    if (link.a < 0 || link.b < 0 || link.a == link.b) return;
    const auto [found, is_new] = link_index_.insert({KeyOf(link), result_.links.size()});
    if (is_new) {
      result_.links.push_back(std::move(link));
      return;
    }
    const std::string between =
        absl::StrCat(result_.devices[link.a].id, " to ", result_.devices[link.b].id);
    MergeLink(link, between, result_.links[found->second], result_.notes);
  }

  Nic* FindNic(const Nic& nic) {
    for (Nic& mine : result_.nics) {
      if (mine.host != nic.host) continue;
      if (!mine.pci_bus_id.empty() && !nic.pci_bus_id.empty()) {
        if (mine.pci_bus_id == nic.pci_bus_id) return &mine;
        continue;
      }
      const auto has = [](const Nic& a, const std::string& name) {
        return a.name == name ||
               std::find(a.interfaces.begin(), a.interfaces.end(), name) != a.interfaces.end();
      };
      if (has(mine, nic.name) || has(nic, mine.name)) return &mine;
    }
    return nullptr;
  }

  void AddNics(const Topology& other) {
    const bool has_own = !result_.nics.empty();
    const bool is_unnamed = std::any_of(other.nics.begin(), other.nics.end(), IsUnnamed) ||
                            std::any_of(result_.nics.begin(), result_.nics.end(), IsUnnamed);
    if (has_own && is_unnamed && !other.nics.empty()) {
      result_.notes.push_back(absl::StrCat("the network cards of ", other.source,
                                           " are left out: without their names nothing tells ",
                                           "which of those of ", result_.source, " they are"));
      return;
    }
    for (Nic nic : other.nics) {
      nic.host = host_map_[nic.host];
      std::map<int, LinkKind> paths;
      for (const auto& [device, kind] : nic.gpu_paths) {
        if (device_map_[device] >= 0) paths[device_map_[device]] = kind;
      }
      nic.gpu_paths = std::move(paths);
      if (Nic* mine = FindNic(nic)) {
        MergeNic(nic, *mine);
      } else {
        result_.nics.push_back(std::move(nic));
      }
    }
  }

  static void MergeNic(const Nic& other, Nic& mine) {
    if (mine.numa_node < 0) mine.numa_node = other.numa_node;
    if (mine.pci_bus_id.empty()) mine.pci_bus_id = other.pci_bus_id;
    if (mine.pci_id.empty()) mine.pci_id = other.pci_id;
    if (mine.pci_bridges.empty()) mine.pci_bridges = other.pci_bridges;
    if (mine.bandwidth_bytes_per_s == 0) mine.bandwidth_bytes_per_s = other.bandwidth_bytes_per_s;
    for (const std::string& name : other.interfaces) {
      std::vector<std::string>& names = mine.interfaces;
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    mine.gpu_paths.insert(other.gpu_paths.begin(), other.gpu_paths.end());
    mine.sources.insert(other.sources.begin(), other.sources.end());
  }

  void AddFabric(Fabric fabric) {
    for (const Fabric& mine : result_.fabrics) {
      if (mine.name == fabric.name) return;
    }
    for (int& host : fabric.hosts) host = host_map_[host];
    result_.fabrics.push_back(std::move(fabric));
  }

  // What one link of a pair tells about access holds for all its links.
  void SpreadPeerAccess() {
    std::map<std::pair<int, int>, const Link*> known;
    for (const Link& link : result_.links) {
      if (link.peer_access != PeerAccess::kUnknown)
        known.insert({std::minmax(link.a, link.b), &link});
    }
    for (Link& link : result_.links) {
      const auto found = known.find(std::minmax(link.a, link.b));
      if (link.peer_access != PeerAccess::kUnknown || found == known.end()) continue;
      link.peer_access = found->second->peer_access;
      link.peer_access_reason = found->second->peer_access_reason;
    }
  }

  void DropBareLinks() {
    std::set<std::pair<int, int>> told;
    for (const Link& link : result_.links) {
      if (!IsBare(link)) told.insert(std::minmax(link.a, link.b));
    }
    std::vector<Link>& links = result_.links;
    links.erase(std::remove_if(links.begin(), links.end(),
                               [&told](const Link& link) {
                                 return IsBare(link) && told.count(std::minmax(link.a, link.b));
                               }),
                links.end());
  }

  // CPUs, then GPUs, each in the order of the hosts; GPUs that came later stand behind.
  void PutCpusFirst() {
    std::vector<int> order(result_.devices.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(), [this](int a, int b) {
      const DeviceInfo& first = result_.devices[a];
      const DeviceInfo& second = result_.devices[b];
      return std::tuple(first.kind == DeviceKind::kGpu, first.host) <
             std::tuple(second.kind == DeviceKind::kGpu, second.host);
    });
    std::vector<int> place(order.size());
    std::vector<DeviceInfo> devices;
    for (size_t i = 0; i < order.size(); ++i) {
      place[order[i]] = static_cast<int>(i);
      devices.push_back(std::move(result_.devices[order[i]]));
    }
    result_.devices = std::move(devices);
    for (Link& link : result_.links) {
      link.a = place[link.a];
      link.b = place[link.b];
    }
    for (Nic& nic : result_.nics) {
      std::map<int, LinkKind> paths;
      for (const auto& [device, kind] : nic.gpu_paths) paths[place[device]] = kind;
      nic.gpu_paths = std::move(paths);
    }
  }

  // Ids that are numbers of different sources may collide; then all GPUs are numbered anew.
  void NumberDistinctly() {
    std::set<std::pair<int, std::string>> ids;
    bool is_distinct = true;
    for (const DeviceInfo& device : result_.devices) {
      is_distinct &= ids.insert({device.host, device.id}).second;
    }
    if (is_distinct) return;
    result_.notes.push_back("the GPUs are numbered anew: their sources give several one number");
    std::map<int, int> next;
    for (DeviceInfo& device : result_.devices) {
      if (device.kind == DeviceKind::kGpu) device.id = absl::StrCat("cuda:", next[device.host]++);
    }
  }

  Topology result_;
  std::map<LinkKey, size_t> link_index_;
  std::vector<int> host_map_;    // of the topology being added: its hosts in result_
  std::vector<int> device_map_;  // likewise its devices, -1: left out
};

}  // namespace

absl::StatusOr<Topology> MergeTopologies(const std::vector<Topology>& by_priority) {
  if (by_priority.empty())
    return absl::InvalidArgumentError("wanted a topology to merge, got none");
  Merger merger(by_priority[0]);
  for (size_t i = 1; i < by_priority.size(); ++i) RETURN_IF_ERROR(merger.Add(by_priority[i]));
  return merger.Finish();
}

}  // namespace tprun
