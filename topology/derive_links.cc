#include "topology/derive_links.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "topology/path_model.h"
#include "topology/pcie.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

using Pairs = std::vector<std::pair<int, int>>;

Pairs LinkedPairs(const Topology& topology) {
  Pairs pairs;
  pairs.reserve(topology.links.size());
  for (const Link& link : topology.links) pairs.push_back(std::minmax(link.a, link.b));
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

Link PcieBetween(const Topology& topology, int a, int b) {
  const DeviceInfo& first = topology.devices[a];
  const DeviceInfo& second = topology.devices[b];
  Link link = {.a = a, .b = b, .kind = LinkKind::kPcie};
  const double rate_b = PcieBandwidth(second.pcie_generation, second.pcie_width);
  for (const DeviceInfo* card : {&first, &second}) {
    if (link.source.empty() && SlotIsEstimate(*card)) {
      link.source =
          absl::StrCat("estimate: as PCIe ", card->pcie_generation, "x", card->pcie_width);
    }
  }
  if (first.kind == DeviceKind::kCpu) {
    link.bandwidth_bytes_per_s = rate_b;
    return link;
  }
  const double rate_a = PcieBandwidth(first.pcie_generation, first.pcie_width);
  link.bandwidth_bytes_per_s = std::min(rate_a, rate_b);
  link.kind = PcieDistance(first, second);
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
        const std::pair<int, int> pair = {devices[i], devices[j]};
        if (std::binary_search(linked.begin(), linked.end(), pair)) continue;
        if (topology.devices[devices[j]].kind == DeviceKind::kCpu) continue;
        topology.links.push_back(PcieBetween(topology, devices[i], devices[j]));
      }
    }
  }
}

}  // namespace tprun
