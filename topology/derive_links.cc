#include "topology/derive_links.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "topology/pcie.h"

namespace tprun {
namespace {

using Pairs = std::set<std::pair<int, int>>;

Pairs LinkedPairs(const Topology& topology) {
  Pairs pairs;
  for (const Link& link : topology.links) pairs.insert(std::minmax(link.a, link.b));
  return pairs;
}

Link PcieBetween(const Topology& topology, int a, int b) {
  const DeviceInfo& first = topology.devices[a];
  const DeviceInfo& second = topology.devices[b];
  Link link = {.a = a, .b = b, .kind = LinkKind::kPcie};
  const double rate_b = PcieBandwidth(second.pcie_generation, second.pcie_width);
  if (first.kind == DeviceKind::kCpu) {
    link.bandwidth_bytes_per_s = rate_b;
    return link;
  }
  const double rate_a = PcieBandwidth(first.pcie_generation, first.pcie_width);
  link.bandwidth_bytes_per_s = std::min(rate_a, rate_b);
  const bool nodes_known = first.numa_node >= 0 && second.numa_node >= 0;
  if (nodes_known && first.numa_node != second.numa_node) link.kind = LinkKind::kSystem;
  return link;
}

}  // namespace

void AddHostLinks(Topology& topology) {
  const Pairs linked = LinkedPairs(topology);
  std::vector<std::vector<int>> by_host(topology.hosts.size());
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    by_host[topology.devices[i].host].push_back(static_cast<int>(i));
  }
  for (const std::vector<int>& devices : by_host) {
    for (size_t i = 0; i < devices.size(); ++i) {
      for (size_t j = i + 1; j < devices.size(); ++j) {
        if (linked.count({devices[i], devices[j]})) continue;
        topology.links.push_back(PcieBetween(topology, devices[i], devices[j]));
      }
    }
  }
}

void AddNetworkLinks(Topology& topology, double bandwidth_bytes_per_s, double latency_s) {
  const Pairs linked = LinkedPairs(topology);
  std::vector<int> cpus;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    if (topology.devices[i].kind == DeviceKind::kCpu) cpus.push_back(static_cast<int>(i));
  }
  for (size_t i = 0; i < cpus.size(); ++i) {
    for (size_t j = i + 1; j < cpus.size(); ++j) {
      if (linked.count({cpus[i], cpus[j]})) continue;
      topology.links.push_back({.a = cpus[i],
                                .b = cpus[j],
                                .kind = LinkKind::kNetwork,
                                .bandwidth_bytes_per_s = bandwidth_bytes_per_s,
                                .latency_s = latency_s});
    }
  }
}

}  // namespace tprun
