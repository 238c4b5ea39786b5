#include "partition/layout_search.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

using Mask = uint64_t;

constexpr Mask Bit(int device) { return Mask{1} << device; }
int Count(Mask mask) { return __builtin_popcountll(mask); }

// Bounds are sums in another order than what they bound.
constexpr double kRounding = 1 - 1e-12;

bool SameDevice(const SearchDevice& a, const SearchDevice& b, const DeviceRates& rates_a,
                const DeviceRates& rates_b) {
  return a.info->kind == b.info->kind && a.usable_bytes == b.usable_bytes &&
         a.info->memory_bytes == b.info->memory_bytes && rates_a.name == rates_b.name &&
         rates_a.compute_capability == rates_b.compute_capability &&
         rates_a.bandwidth_bytes_per_s == rates_b.bandwidth_bytes_per_s &&
         rates_a.ops_per_s == rates_b.ops_per_s;
}

// Of a host, equal for hosts that have the same devices.
std::string HostSignature(const std::vector<SearchDevice>& devices, int host) {
  std::multiset<std::string> parts;
  for (const SearchDevice& device : devices) {
    if (device.host != host) continue;
    parts.insert(absl::StrCat(device.info->name, ",", device.usable_bytes, ",",
                              device.info->memory_bandwidth_bytes_per_s));
  }
  std::string text;
  for (const std::string& part : parts) absl::StrAppend(&text, part, ";");
  return text;
}

}  // namespace

std::vector<int> ClassesOf(const std::vector<SearchDevice>& devices,
                           const std::vector<DeviceRates>& rates,
                           const TopologyExchanges& exchanges, int first_rank) {
  const int count = static_cast<int>(devices.size());
  std::vector<int> classes(count, -1);
  for (int a = 0; a < count; ++a) {
    if (classes[a] >= 0) continue;
    classes[a] = a;
    for (int b = a + 1; b < count && a != first_rank; ++b) {
      if (classes[b] >= 0 || b == first_rank) continue;
      bool same = SameDevice(devices[a], devices[b], rates[a], rates[b]);
      for (int c = a; c < b && same; ++c) {
        if (classes[c] == a) same = exchanges.Alike(c, b);
      }
      if (same) classes[b] = a;
    }
  }
  return classes;
}

LayoutSearch::LayoutSearch(const LayerTables& tables, const std::vector<SearchDevice>& devices,
                           std::vector<int> classes, const Exchanges& exchanges,
                           const SearchSpace& space)
    : tables_(tables),
      devices_(devices),
      classes_(std::move(classes)),
      exchanges_(exchanges),
      space_(space),
      solver_(tables, devices, exchanges),
      layers_(tables.num_layers()) {
  std::map<std::string, int> signatures;
  for (int i = 0; i < static_cast<int>(devices.size()); ++i) {
    all_ |= Bit(i);
    const int host = devices[i].host;
    if (host >= static_cast<int>(host_classes_.size())) host_classes_.resize(host + 1, -1);
    host_classes_[host] =
        signatures.emplace(HostSignature(devices, host), static_cast<int>(signatures.size()))
            .first->second;
  }
}

absl::optional<Layout> LayoutSearch::Best(double limit) {
  limit_ = limit;
  best_.reset();
  RunStages(/*servers=*/false);
  const bool cpu = std::any_of(devices_.begin(), devices_.end(), [](const SearchDevice& device) {
    return device.info->kind == DeviceKind::kCpu;
  });
  if (space_.offload && cpu && !space_.one_stage) RunStages(/*servers=*/true);
  return best_;
}

void LayoutSearch::RunStages(bool servers) {
  servers_ = servers;
  states_.clear();
  next_.clear();
  groups_.clear();
  hops_.clear();
  required_ = all_;
  for (int i = 0; servers && i < static_cast<int>(devices_.size()); ++i) {
    if (IsCpu(i)) required_ &= ~Bit(i);
  }
  const StateKey start = {0, 0, 0};
  states_[start] = std::vector<Step>(layers_ + 1);
  states_[start][0].seconds = 0;
  // One stage first: a good layout early cuts most branches.
  for (Group* group : NextGroups(0)) Finish(start, 0, 0, *group);
  if (space_.one_stage) return;
  MakeRest();
  // States are only ever added behind the one that is looked at: they have more devices.
  for (auto state = states_.begin(); state != states_.end(); ++state) {
    for (int layer = 0; layer < layers_; ++layer) {
      const double seconds = state->second[layer].seconds;
      if (!((seconds + rest_[layer]) * kRounding < limit_)) continue;
      Extend(state->first, layer, seconds);
    }
  }
}

void LayoutSearch::Extend(const StateKey& key, int layer, double seconds) {
  const Mask used = std::get<1>(key);
  for (Group* group : NextGroups(used)) {
    const double before = seconds + (used == 0 ? 0 : Hop(GroupOf(std::get<2>(key)), *group));
    if (used != 0) Finish(key, layer, before, *group);
    ExtendTo(key, layer, before, *group);
  }
}

// The last stage: all layers that are left.
void LayoutSearch::Finish(const StateKey& key, int layer, double before, Group& group) {
  const Mask used = std::get<1>(key) | group.mask;
  if (space_.use_all && (used & required_) != required_) return;
  const double floor = group.floors[layers_] - group.floors[layer] + group.head_floor;
  if (!((before + floor) * kRounding < limit_)) return;
  const absl::optional<StagePlan>& plan = Solved(group, layer, layers_, limit_ - before);
  if (!plan || !(before + plan->seconds < limit_)) return;
  absl::optional<Layout> layout = Trace(key, layer, group);
  if (!layout) return;
  layout->seconds = before + plan->seconds;
  limit_ = layout->seconds;
  best_ = std::move(layout);
}

// A stage that is not the last, of every length.
void LayoutSearch::ExtendTo(const StateKey& key, int layer, double seconds, Group& group) {
  const Mask used = std::get<1>(key) | group.mask;
  if (used == all_) return;
  const StateKey next = {Count(used), used, group.mask};
  std::vector<Step>* steps = nullptr;
  for (int end = layer + 1; end < layers_; ++end) {
    const double floor = seconds + group.floors[end] - group.floors[layer];
    if (!((floor + rest_[end]) * kRounding < limit_)) continue;
    if (steps == nullptr) {
      auto [entry, added] = states_.try_emplace(next);
      if (added) entry->second.resize(layers_ + 1);
      steps = &entry->second;
    }
    Step& step = (*steps)[end];
    if (!(floor * kRounding < step.seconds)) continue;
    const absl::optional<StagePlan>& plan =
        Solved(group, layer, end, limit_ - seconds - rest_[end]);
    if (!plan) return;  // more layers fit even less
    if (seconds + plan->seconds < step.seconds) {
      step = {seconds + plan->seconds, std::get<2>(key), layer};
    }
  }
}

// The stages that led to `key` at `layer`, and `last` with the rest. Nothing where stages together
// ask too much of a server.
absl::optional<Layout> LayoutSearch::Trace(StateKey key, int layer, Group& last) {
  Layout layout;
  Group* group = &last;
  int end = layers_;
  std::map<int, int64_t> server_bytes;
  while (true) {
    const absl::optional<StagePlan>& plan =
        Solved(*group, layer, end, std::numeric_limits<double>::infinity());
    if (!plan) return absl::nullopt;
    if (plan->offloaded > 0) server_bytes[group->server] += plan->server_bytes;
    layout.stages.insert(layout.stages.begin(), {RequestFor(*group, layer, end), *plan});
    if (std::get<1>(key) == 0) break;
    const Step step = states_.at(key)[layer];
    group = &GroupOf(std::get<2>(key));
    end = layer;
    layer = step.first_layer;
    const Mask used = std::get<1>(key) & ~group->mask;
    key = {Count(used), used, step.group_before};
  }
  for (int i = 0; i < layers_; ++i) layout.layer_classes.push_back(tables_.ClassOf(i));
  for (const auto& [server, bytes] : server_bytes) {
    if (bytes > devices_[server].usable_bytes) return absl::nullopt;
  }
  return layout;
}

// All ways to take the lowest numbers of every class among `devices` that are free.
void LayoutSearch::AddGroups(const std::vector<int>& devices, Mask used,
                             std::vector<Mask>& groups) const {
  std::map<int, std::vector<int>> free;
  for (int device : devices) {
    if ((used & Bit(device)) == 0) free[classes_[device]].push_back(device);
  }
  std::vector<Mask> made = {0};
  for (const auto& [device_class, members] : free) {
    const size_t before = made.size();
    Mask taken = 0;
    for (int member : members) {
      taken |= Bit(member);
      for (size_t i = 0; i < before; ++i) made.push_back(made[i] | taken);
    }
  }
  for (Mask group : made) {
    if (group != 0 && MayGroup(group, used)) groups.push_back(group);
  }
}

bool LayoutSearch::MayGroup(Mask group, Mask used) const {
  if (space_.single_devices && Count(group) > 1) return false;
  if (space_.use_all && space_.one_stage && ((used | group) & required_) != required_) return false;
  int kind = -1;
  std::set<int> hosts;
  std::set<int> touched;  // before
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    if ((used & Bit(i)) != 0) touched.insert(devices_[i].host);
    if ((group & Bit(i)) == 0) continue;
    const int this_kind = static_cast<int>(devices_[i].info->kind);
    // CPUs and GPUs do not share a group, unless all devices have to.
    if (kind >= 0 && kind != this_kind && !(space_.use_all && space_.one_stage)) return false;
    kind = this_kind;
    hosts.insert(devices_[i].host);
  }
  // Of equal hosts the first is used first.
  for (int host : hosts) {
    if (touched.count(host) > 0) continue;
    for (int before = 0; before < host; ++before) {
      if (host_classes_[before] == host_classes_[host] && touched.count(before) == 0 &&
          hosts.count(before) == 0 && !space_.use_all) {
        return false;
      }
    }
  }
  return true;
}

const std::vector<LayoutSearch::Group*>& LayoutSearch::NextGroups(Mask used) {
  const auto [entry, added] = next_.try_emplace(used);
  std::vector<Group*>& groups = entry->second;
  if (!added) return groups;
  std::vector<int> everything;
  std::map<int, std::vector<int>> by_host;
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    everything.push_back(i);
    by_host[devices_[i].host].push_back(i);
  }
  std::vector<Mask> masks;
  if (static_cast<int>(devices_.size()) <= kMostMixedDevices ||
      (space_.one_stage && space_.use_all)) {
    AddGroups(everything, used, masks);
  } else {
    for (const auto& [host, members] : by_host) AddGroups(members, used, masks);
  }
  for (Mask mask : masks) {
    if (!servers_ || ServerOf(mask) >= 0) groups.push_back(&GroupOf(mask));
  }
  std::stable_sort(groups.begin(), groups.end(), [&](const Group* a, const Group* b) {
    return a->floors[layers_] + a->head_floor < b->floors[layers_] + b->head_floor;
  });
  return groups;
}

bool LayoutSearch::IsCpu(int device) const {
  return devices_[device].info->kind == DeviceKind::kCpu;
}

// The CPU of the group's host; -1: there is none, or the group is no GPUs of one host.
int LayoutSearch::ServerOf(Mask group) const {
  const int host = devices_[__builtin_ctzll(group)].host;
  int server = -1;
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    const bool member = (group & Bit(i)) != 0;
    if (member && (IsCpu(i) || devices_[i].host != host)) return -1;
    if (IsCpu(i) && devices_[i].host == host) server = i;
  }
  return server;
}

LayoutSearch::Group& LayoutSearch::GroupOf(Mask mask) {
  const auto [entry, added] = groups_.try_emplace(mask);
  Group& group = entry->second;
  if (!added) return group;
  group.mask = mask;
  group.number = static_cast<int>(groups_.size()) - 1;
  group.server = servers_ ? ServerOf(mask) : -1;
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    if ((mask & Bit(i)) != 0) group.members.push_back(i);
  }
  group.members = exchanges_.RingOrder(group.members);
  std::vector<double> by_class;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    by_class.push_back(solver_.LayerFloor(group.members, c, group.server));
  }
  group.floors = {0};
  for (int layer = 0; layer < layers_; ++layer) {
    group.floors.push_back(group.floors.back() + by_class[tables_.ClassOf(layer)]);
  }
  group.head_floor = solver_.HeadFloor(group.members, space_.first_rank);
  return group;
}

void LayoutSearch::MakeRest() {
  std::vector<double> least(layers_, std::numeric_limits<double>::infinity());
  double head = std::numeric_limits<double>::infinity();
  for (const Group* group : NextGroups(0)) {
    head = std::min(head, group->head_floor);
    for (int layer = 0; layer < layers_; ++layer) {
      least[layer] = std::min(least[layer], group->floors[layer + 1] - group->floors[layer]);
    }
  }
  rest_.assign(layers_ + 1, head);
  for (int layer = layers_ - 1; layer >= 0; --layer) rest_[layer] = rest_[layer + 1] + least[layer];
}

StageRequest LayoutSearch::RequestFor(const Group& group, int first, int end) const {
  StageRequest request;
  request.group = group.members;
  request.first_layer = first;
  request.end_layer = end;
  request.has_embed = first == 0;
  request.has_head = end == layers_;
  request.has_others = !(request.has_embed && request.has_head);
  request.first_rank = space_.first_rank;
  request.server = group.server;
  return request;
}

const absl::optional<StagePlan>& LayoutSearch::Solved(Group& group, int first, int end,
                                                      double limit) {
  // Where all layers are of one class only their number counts.
  const int64_t from = tables_.num_classes() == 1 ? 0 : first;
  const int64_t ends = 2 * (first == 0) + (end == layers_);
  const int64_t key = ((from * (layers_ + 1)) + end - first) * 4 + ends;
  const auto [entry, added] = group.solutions.try_emplace(key);
  Solution& solution = entry->second;
  if (solution.plan || (!added && limit <= solution.tried_limit)) return solution.plan;
  solution.plan = solver_.Solve(RequestFor(group, first, end), limit);
  solution.tried_limit = limit;
  return solution.plan;
}

double LayoutSearch::Hop(const Group& from, const Group& to) {
  if (hops_.size() < groups_.size()) hops_.resize(groups_.size());
  std::vector<double>& row = hops_[from.number];
  if (row.size() < groups_.size()) row.resize(groups_.size(), -1);
  double& seconds = row[to.number];
  if (seconds < 0) {
    seconds = HopSeconds(exchanges_, from.members, to.members, tables_.exchange_bytes());
  }
  return seconds;
}

}  // namespace tprun
