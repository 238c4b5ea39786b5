#include "topology/derived_json.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "topology/exchange_groups.h"
#include "topology/text_view.h"

namespace tprun {
namespace {

const char* AccessName(PeerAccess access) {
  return access == PeerAccess::kYes ? "yes" : access == PeerAccess::kNo ? "no" : "unknown";
}

Json PathJson(const TextView& view, int a, int b) {
  const Path path = view.finder.Between({.device = a}, {.device = b});
  return {{"a", a},
          {"b", b},
          {"kind", std::string(LinkKindName(path.kind))},
          {"bandwidth_bytes_per_s", path.bandwidth_bytes_per_s},
          {"expected_bytes_per_s", path.expected_bytes_per_s},
          {"latency_s", path.latency_s},
          {"through_host_memory", path.through_host},
          {"peer_access", AccessName(path.peer_access)},
          {"why", path.why}};
}

Json PathsJson(const TextView& view) {
  constexpr size_t kMaxDevices = 64;
  constexpr size_t kMaxPaths = 100000;
  Json paths = Json::array();
  for (size_t host = 0; host < view.devices.size(); ++host) {
    const std::vector<int>& devices = view.devices[host];
    if (!view.IsShown(static_cast<int>(host)) || devices.size() > kMaxDevices) continue;
    for (size_t i = 0; i < devices.size() && paths.size() < kMaxPaths; ++i) {
      for (size_t j = i + 1; j < devices.size(); ++j) {
        paths.push_back(PathJson(view, devices[i], devices[j]));
      }
    }
  }
  return paths;
}

Json ExchangesJson(const TextView& view) {
  constexpr size_t kMaxMembers = 1024;
  Json exchanges = Json::array();
  for (const auto& [what, ring] : ExchangeGroups(view)) {
    Json members = Json::array();
    for (size_t i = 0; i < ring.size() && i < kMaxMembers; ++i) {
      members.push_back(DeviceId(view.topology, ring[i]));
    }
    Json costs = Json::array();
    for (const int64_t bytes : {int64_t{16} << 10, int64_t{1} << 20, int64_t{32} << 20}) {
      const ExchangeCost cost = AllReduceCost(view.finder, ring, bytes);
      if (!std::isfinite(cost.seconds)) continue;
      costs.push_back({{"bytes", bytes},
                       {"seconds", cost.seconds},
                       {"bottleneck_bytes_per_s", cost.bottleneck_bytes_per_s},
                       {"algorithm", cost.algorithm}});
    }
    exchanges.push_back({{"among", what},
                         {"gpus", ring.size()},
                         {"ring", std::move(members)},
                         {"all_reduce", std::move(costs)}});
  }
  return exchanges;
}

}  // namespace

Json DerivedJson(const Topology& topology) {
  const TextView view(topology, false);
  return {{"paths", PathsJson(view)}, {"exchanges", ExchangesJson(view)}};
}

}  // namespace tprun
