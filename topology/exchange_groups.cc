#include "topology/exchange_groups.h"

#include <algorithm>
#include <utility>

namespace tprun {
namespace {

using Group = std::vector<DeviceRef>;

// The groups of which an all-reduce is told: islands, hosts, everything; no group twice.
class Groups {
 public:
  explicit Groups(const TextView& view) : view_(view) {}

  std::vector<ExchangeGroup> Collect() {
    for (const Group& island : NvlinkIslands(view_.topology)) {
      if (groups_.size() == kShown) break;
      if (view_.IsShown(view_.topology.devices[island[0].device].host)) {
        Add("NVLink island", island);
      }
    }
    const size_t most = groups_.size() + kShown;
    for (size_t host = 0; host < view_.devices.size() && groups_.size() < most; ++host) {
      const int index = static_cast<int>(host);
      if (!view_.IsShown(index)) continue;
      Group group;
      for (int device : view_.devices[host]) {
        if (view_.topology.devices[device].kind == DeviceKind::kGpu) {
          group.push_back({.device = device});
        }
      }
      Add(view_.devices.size() > 1 ? view_.HostLabel(index) : "all GPUs", group);
    }
    Add("all hosts", AllGpus());
    return std::move(groups_);
  }

 private:
  // Empty where they are more than can be counted.
  Group AllGpus() const {
    constexpr int64_t kMost = 1 << 20;
    int64_t count = 0;
    for (size_t host = 0; host < view_.devices.size(); ++host) {
      count += int64_t{view_.topology.hosts[host].count} * view_.devices[host].size();
    }
    Group all;
    if (count > kMost) return all;
    for (const DeviceRef& ref : AllDeviceRefs(view_.topology)) {
      if (view_.topology.devices[ref.device].kind == DeviceKind::kGpu) all.push_back(ref);
    }
    return all;
  }

  void Add(const std::string& what, const Group& group) {
    const auto same = [&](const Group& other) { return other == group; };
    if (group.size() < 2 || std::any_of(seen_.begin(), seen_.end(), same)) return;
    seen_.push_back(group);
    groups_.push_back({what, BestRing(view_.finder, group)});
  }

  static constexpr size_t kShown = 6;
  const TextView& view_;
  std::vector<Group> seen_;  // in the order of devices
  std::vector<ExchangeGroup> groups_;
};

}  // namespace

std::vector<ExchangeGroup> ExchangeGroups(const TextView& view) { return Groups(view).Collect(); }

}  // namespace tprun
