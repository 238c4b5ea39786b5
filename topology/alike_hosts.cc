#include "topology/alike_hosts.h"

#include <algorithm>
#include <tuple>

namespace tprun {
namespace {

// What belongs to one host; indices into the topology.
struct Parts {
  std::vector<int> devices, links, nics, fabrics;
};

bool Alike(const NumaNode& a, const NumaNode& b) {
  return std::tie(a.id, a.memory_bytes, a.available_bytes, a.cpus, a.package) ==
         std::tie(b.id, b.memory_bytes, b.available_bytes, b.cpus, b.package);
}

bool Alike(const Host& a, const Host& b) {
  return a.count == 1 && b.count == 1 && a.memory_bytes == b.memory_bytes &&
         a.available_bytes == b.available_bytes &&
         std::equal(a.numa_nodes.begin(), a.numa_nodes.end(), b.numa_nodes.begin(),
                    b.numa_nodes.end(),
                    [](const NumaNode& x, const NumaNode& y) { return Alike(x, y); });
}

bool Alike(const DeviceInfo& a, const DeviceInfo& b) {
  const auto figures = [](const DeviceInfo& device) {
    return std::tie(device.kind, device.id, device.name, device.numa_node, device.memory_bytes,
                    device.available_bytes, device.memory_bandwidth_bytes_per_s, device.cores,
                    device.threads, device.isa, device.pci_bus_id, device.pci_bridges,
                    device.compute_capability, device.pcie_generation, device.pcie_width,
                    device.pcie_max_width, device.nvlink_count, device.mig, device.peak_ops_per_s);
  };
  const auto measured = [](const DeviceMeasurements& device) {
    return std::tie(device.memory_bandwidth_bytes_per_s, device.host_to_device_bytes_per_s,
                    device.device_to_host_bytes_per_s, device.matmul_ops_per_s,
                    device.rank_latency_s, device.rank_bandwidth_bytes_per_s, device.context_bytes,
                    device.nccl_base_bytes, device.nccl_channel_bytes);
  };
  return figures(a) == figures(b) && measured(a.measured) == measured(b.measured) &&
         a.processes.empty() == b.processes.empty();
}

bool Alike(const Link& a, const Link& b) {
  const auto figures = [](const Link& link) {
    return std::tie(link.kind, link.bandwidth_bytes_per_s, link.latency_s, link.count,
                    link.via_switch, link.peer_access, link.peer_access_reason,
                    link.measured_bandwidth_bytes_per_s, link.measured_latency_s);
  };
  return figures(a) == figures(b);
}

bool Alike(const Nic& a, const Nic& b) {
  return std::tie(a.name, a.numa_node, a.pci_bus_id, a.bandwidth_bytes_per_s) ==
         std::tie(b.name, b.numa_node, b.pci_bus_id, b.bandwidth_bytes_per_s);
}

class Comparison {
 public:
  explicit Comparison(const Topology& topology)
      : topology_(topology), parts_(topology.hosts.size()), place_(topology.devices.size()) {
    for (size_t i = 0; i < topology.devices.size(); ++i) {
      std::vector<int>& devices = parts_[topology.devices[i].host].devices;
      place_[i] = static_cast<int>(devices.size());
      devices.push_back(static_cast<int>(i));
    }
    for (size_t i = 0; i < topology.links.size(); ++i) {
      const Link& link = topology.links[i];
      const int host = topology.devices[link.a].host;
      parts_[host].links.push_back(static_cast<int>(i));
      // A host with links of its own to others is like none.
      const int other = topology.devices[link.b].host;
      if (other != host) unique_.insert(unique_.end(), {host, other});
    }
    for (size_t i = 0; i < topology.nics.size(); ++i) {
      parts_[topology.nics[i].host].nics.push_back(static_cast<int>(i));
    }
    for (size_t i = 0; i < topology.fabrics.size(); ++i) {
      for (int host : topology.fabrics[i].hosts)
        parts_[host].fabrics.push_back(static_cast<int>(i));
    }
  }

  std::vector<int> First() {
    constexpr size_t kKinds = 16;  // compared with; a cluster has few
    std::vector<bool> is_unique(parts_.size());
    for (int host : unique_) is_unique[host] = true;
    std::vector<int> first(parts_.size());
    std::vector<int> kinds;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const int host = static_cast<int>(i);
      const auto kind =
          is_unique[i] ? kinds.end() : std::find_if(kinds.begin(), kinds.end(), [&](int other) {
            return !is_unique[other] && HostsAlike(other, host);
          });
      first[i] = kind == kinds.end() ? host : *kind;
      if (kind == kinds.end() && kinds.size() < kKinds) kinds.push_back(host);
    }
    return first;
  }

 private:
  template <typename T, typename F>
  static bool All(const std::vector<T>& all, const std::vector<int>& a, const std::vector<int>& b,
                  F alike) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                              [&](int x, int y) { return alike(all[x], all[y]); });
  }

  bool LinksAlike(const Link& a, const Link& b) const {
    return place_[a.a] == place_[b.a] && place_[a.b] == place_[b.b] && Alike(a, b);
  }

  bool NicsAlike(const Nic& a, const Nic& b) const {
    return Alike(a, b) && std::equal(a.gpu_paths.begin(), a.gpu_paths.end(), b.gpu_paths.begin(),
                                     b.gpu_paths.end(), [&](const auto& x, const auto& y) {
                                       return place_[x.first] == place_[y.first] &&
                                              x.second == y.second;
                                     });
  }

  bool HostsAlike(int a, int b) const {
    const auto devices = [](const DeviceInfo& x, const DeviceInfo& y) { return Alike(x, y); };
    const auto links = [&](const Link& x, const Link& y) { return LinksAlike(x, y); };
    const auto nics = [&](const Nic& x, const Nic& y) { return NicsAlike(x, y); };
    return Alike(topology_.hosts[a], topology_.hosts[b]) &&
           parts_[a].fabrics == parts_[b].fabrics &&
           All(topology_.devices, parts_[a].devices, parts_[b].devices, devices) &&
           All(topology_.links, parts_[a].links, parts_[b].links, links) &&
           All(topology_.nics, parts_[a].nics, parts_[b].nics, nics);
  }

  const Topology& topology_;
  std::vector<Parts> parts_;
  std::vector<int> place_;   // of each device within its host
  std::vector<int> unique_;  // hosts that are like none
};

}  // namespace

std::vector<std::vector<int>> DevicesByHost(const Topology& topology) {
  std::vector<std::vector<int>> devices(topology.hosts.size());
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    devices[topology.devices[i].host].push_back(static_cast<int>(i));
  }
  return devices;
}

std::vector<int> AlikeHosts(const Topology& topology) { return Comparison(topology).First(); }

}  // namespace tprun
