#include "topology/nvlink_switch.h"

#include <vector>

namespace tprun {
namespace {

constexpr int kMostLinks = 18;

struct CardLinks {
  int sum = 0;
  int count = 0;  // toward each peer, -1: they differ
};

std::vector<CardLinks> LinksByCard(const Topology& topology) {
  std::vector<CardLinks> cards(topology.devices.size());
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink || link.via_switch) continue;
    for (const int end : {link.a, link.b}) {
      CardLinks& card = cards[end];
      card.count = card.sum == 0 || card.count == link.count ? link.count : -1;
      card.sum += link.count;
    }
  }
  return cards;
}

}  // namespace

void MarkSwitchedLinks(Topology& topology) {
  const std::vector<CardLinks> cards = LinksByCard(topology);
  for (Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink || link.via_switch || link.count == 0) continue;
    bool is_switched = true;
    for (const int end : {link.a, link.b}) {
      const int own = topology.devices[end].nvlink_count;
      const CardLinks& card = cards[end];
      is_switched &= card.count > 0 && card.sum > (own > 0 ? own : kMostLinks);
    }
    link.via_switch = is_switched;
  }
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink || !link.via_switch || link.count == 0) continue;
    for (const int end : {link.a, link.b}) {
      DeviceInfo& device = topology.devices[end];
      if (device.kind != DeviceKind::kGpu || device.nvlink_count > 0) continue;
      device.nvlink_count = link.count;
      device.sources["nvlink_count"] = link.source;
    }
  }
}

}  // namespace tprun
