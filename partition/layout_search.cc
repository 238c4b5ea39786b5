#include "partition/layout_search.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "partition/device_mask.h"
#include "partition/memory_model.h"

namespace tprun {
namespace {

// Bounds are sums in another order than what they bound.
constexpr double kRounding = 1 - 1e-12;

// Times within this are the same.
constexpr double kSameTime = 1 - 1e-9;

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

bool SameDevice(const SearchDevice& a, const SearchDevice& b, const DeviceRates& rates_a,
                const DeviceRates& rates_b) {
  return a.info->kind == b.info->kind && a.usable_bytes == b.usable_bytes &&
         a.info->memory_bytes == b.info->memory_bytes && rates_a.name == rates_b.name &&
         rates_a.compute_capability == rates_b.compute_capability &&
         rates_a.bandwidth_bytes_per_s == rates_b.bandwidth_bytes_per_s &&
         rates_a.ops_per_s == rates_b.ops_per_s &&
         OverheadSignature(*a.info) == OverheadSignature(*b.info);
}

// Of a host, equal for hosts that have the same devices.
std::string HostSignature(const std::vector<SearchDevice>& devices, int host) {
  std::multiset<std::string> parts;
  for (const SearchDevice& device : devices) {
    if (device.host != host) continue;
    parts.insert(absl::StrCat(device.info->name, ",", device.usable_bytes, ",",
                              device.info->memory_bandwidth_bytes_per_s, ",",
                              OverheadSignature(*device.info)));
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
    all_ |= DeviceBit(i);
    if (!IsCpu(i)) gpus_ |= DeviceBit(i);
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
  solver_.set_most_work(solver_.work() + (any_ ? kMostWork / 32 : space_.most_work));
  // Few layouts first: a good one early cuts most branches of the others.
  const bool chains = gpus_ != 0 && gpus_ != all_ && !space_.one_stage;
  if (chains) RunStages(Chains::kOneGpuGroup);
  if (chains && space_.offload && !Done()) RunStages(Chains::kServed);
  if (!Done()) RunStages(Chains::kAny);
  if (best_) best_->proven = !Tired();
  if (best_ && !any_) EvenOut(*best_);
  if (best_ && !best_->proven && space_.bounded && !any_) {
    best_->least_seconds = LeastSeconds();
    // What comes this near is as good: a search that went on would not find more.
    best_->proven = best_->seconds * kSameTime <= best_->least_seconds;
  }
  return best_;
}

// What no layout can undercut: the bound by which branches are cut, of all layers on all devices.
double LayoutSearch::LeastSeconds() {
  const bool serve = gpus_ != 0 && gpus_ != all_ && !space_.one_stage && space_.offload;
  double least = kUnlimited;
  for (const Chains chains : {Chains::kAny, Chains::kServed}) {
    if (chains == Chains::kServed && !serve) continue;
    if (chains != chains_) Begin(chains);
    MakeBounds();
    least = std::min(least, std::max(RestSeconds(RoomBeside(0), 0), Rest(0)[0]));
  }
  return least < kUnlimited ? least * kRounding : 0;
}

bool LayoutSearch::Any(double limit) {
  any_ = true;
  const bool found = Best(limit).has_value();
  any_ = false;
  return found;
}

void LayoutSearch::Begin(Chains chains) {
  chains_ = chains;
  servers_ = chains == Chains::kServed;
  states_.clear();
  next_.clear();
  groups_.clear();
  hops_.clear();
  rest_.clear();
  SumBytes();
  required_ = servers_ ? gpus_ : all_;
}

void LayoutSearch::RunStages(Chains chains) {
  Begin(chains);
  // What all devices together are too small for needs no search.
  if (layer_bytes_.back() > RoomOf(all_)) return;
  const StateKey start = {0, 0, 0};
  states_[start] = std::vector<Step>(layers_ + 1);
  states_[start][0].seconds = 0;
  // One stage first: a good layout early cuts most branches.
  for (Group* group : NextGroups(0)) {
    Finish(start, 0, 0, *group);
    if (Done()) return;
  }
  if (space_.one_stage) return;
  if (chains == Chains::kOneGpuGroup) Seed();
  MakeBounds();
  // States are only ever added behind the one that is looked at: they have more devices.
  for (auto state = states_.begin(); state != states_.end(); ++state) {
    const Mask used = std::get<1>(state->first);
    const int64_t room = RoomBeside(used);
    for (int layer = 0; layer < layers_; ++layer) {
      const double seconds = state->second[layer].seconds;
      if (!((seconds + RestSeconds(room, layer)) * kRounding < limit_)) continue;
      if (used != 0 && !((seconds + Rest(used)[layer]) * kRounding < limit_)) continue;
      Extend(state->first, layer, seconds);
      if (Done()) return;
    }
  }
}

// As few layers first on a CPU as let the others fit on one of the fastest groups of GPUs: seldom
// the best, but good enough to cut by.
void LayoutSearch::Seed() {
  constexpr int kMostSeeds = 4;
  int seeds = 0;
  for (Group* cpu : NextGroups(0)) {
    if (!IsCpu(cpu->members[0])) continue;
    for (Group* group : NextGroups(cpu->mask)) {
      if (IsCpu(group->members[0]) || ++seeds > kMostSeeds) continue;
      if (Done()) return;
      int low = 0;
      int high = layers_;
      while (low + 1 < high) {
        const int middle = low + (high - low) / 2;
        const StageRequest rest = RequestFor(*group, middle, layers_);
        (solver_.Solve(rest, kUnlimited, /*any=*/true) ? high : low) = middle;
      }
      if (high == layers_) continue;
      const absl::optional<StagePlan>& first = Solved(*cpu, 0, high, kUnlimited);
      if (!first) continue;
      const StateKey key = {1, cpu->mask, cpu->mask};
      auto [entry, added] = states_.try_emplace(key);
      if (added) entry->second.resize(layers_ + 1);
      if (first->seconds < entry->second[high].seconds) {
        entry->second[high] = {first->seconds, 0, 0};
      }
      Finish(key, high, entry->second[high].seconds + Hop(*cpu, *group), *group);
    }
  }
}

void LayoutSearch::Extend(const StateKey& key, int layer, double seconds) {
  const Mask used = std::get<1>(key);
  for (Group* group : NextGroups(used)) {
    if (Done()) return;
    const double before = seconds + (used == 0 ? 0 : Hop(GroupOf(std::get<2>(key)), *group));
    if (used != 0) Finish(key, layer, before, *group);
    ExtendTo(key, layer, before, *group);
  }
}

// The last stage: all layers that are left.
void LayoutSearch::Finish(const StateKey& key, int layer, double before, Group& group) {
  const Mask used = std::get<1>(key) | group.mask;
  if (space_.use_all && (used & required_) != required_) return;
  const double floor = StageFloor(group, layer, layers_) + group.head_floor;
  if (!((before + floor) * kRounding < limit_)) return;
  const absl::optional<StagePlan>& plan = Solved(group, layer, layers_, limit_ - before);
  if (!plan || !(before + plan->seconds < limit_)) return;
  absl::optional<Layout> layout = Trace(key, layer, group);
  if (!layout) return;
  layout->seconds += before + plan->seconds;
  if (!(layout->seconds < limit_)) return;
  limit_ = layout->seconds;
  best_ = std::move(layout);
}

// A stage that is not the last, of every length.
void LayoutSearch::ExtendTo(const StateKey& key, int layer, double seconds, Group& group) {
  const Mask used = std::get<1>(key) | group.mask;
  if (used == all_) return;
  const StateKey next = {CountDevices(used), used, group.mask};
  const int64_t room = RoomBeside(used);
  std::vector<Step>* steps = nullptr;
  for (int end = layer + 1; end < layers_; ++end) {
    const double floor = seconds + StageFloor(group, layer, end);
    if (Done()) return;
    // About what a bound and a look into the table cost in steps of the share solver.
    solver_.AddWork(8 * (1 + static_cast<int64_t>(bounds_.size())));
    double rest = RestSeconds(room, end);
    if (!((floor + rest) * kRounding < limit_)) continue;
    rest = std::max(rest, Rest(used)[end]);
    if (!((floor + rest) * kRounding < limit_)) continue;
    if (steps == nullptr) {
      auto [entry, added] = states_.try_emplace(next);
      if (added) entry->second.resize(layers_ + 1);
      steps = &entry->second;
    }
    Step& step = (*steps)[end];
    if (!(floor * kRounding < step.seconds)) continue;
    const absl::optional<StagePlan>& plan = Solved(group, layer, end, limit_ - seconds - rest);
    if (!plan && !Fits(group, layer, end)) return;  // more layers fit even less
    if (!plan) continue;
    if (seconds + plan->seconds < step.seconds) {
      step = {seconds + plan->seconds, std::get<2>(key), layer};
    }
  }
}

// The stages that led to `key` at `layer`, and `last` with the rest; its seconds are what the
// stages take more than they were found with. Nothing where they together ask too much of a server.
absl::optional<Layout> LayoutSearch::Trace(StateKey key, int layer, Group& last) {
  Layout layout;
  Group* group = &last;
  int end = layers_;
  while (true) {
    const absl::optional<StagePlan>& plan =
        Solved(*group, layer, end, std::numeric_limits<double>::infinity());
    if (!plan) return absl::nullopt;
    layout.stages.insert(layout.stages.begin(), {RequestFor(*group, layer, end), *plan});
    if (std::get<1>(key) == 0) break;
    const Step step = states_.at(key)[layer];
    group = &GroupOf(std::get<2>(key));
    end = layer;
    layer = step.first_layer;
    const Mask used = std::get<1>(key) & ~group->mask;
    key = {CountDevices(used), used, step.group_before};
  }
  for (int i = 0; i < layers_; ++i) layout.layer_classes.push_back(tables_.ClassOf(i));
  if (!ShareServers(layout)) return absl::nullopt;
  return layout;
}

// All ways to take the lowest numbers of every class among `devices` that are free.
void LayoutSearch::AddGroups(const std::vector<int>& devices, Mask used,
                             std::vector<Mask>& groups) const {
  std::map<int, std::vector<int>> free;
  for (int device : devices) {
    if ((used & DeviceBit(device)) == 0) free[classes_[device]].push_back(device);
  }
  std::vector<Mask> made = {0};
  for (const auto& [device_class, members] : free) {
    const size_t before = made.size();
    Mask taken = 0;
    for (int member : members) {
      taken |= DeviceBit(member);
      for (size_t i = 0; i < before; ++i) made.push_back(made[i] | taken);
    }
  }
  for (Mask group : made) {
    if (group != 0 && MayGroup(group, used)) groups.push_back(group);
  }
}

bool LayoutSearch::MayGroup(Mask group, Mask used) const {
  if (space_.single_devices && CountDevices(group) > 1) return false;
  if (space_.use_all && space_.one_stage && ((used | group) & required_) != required_) return false;
  int kind = -1;
  std::set<int> hosts;
  std::set<int> touched;  // before
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    if ((used & DeviceBit(i)) != 0) touched.insert(devices_[i].host);
    if ((group & DeviceBit(i)) == 0) continue;
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
  const bool gpus_used = (used & gpus_) != 0;
  for (Mask mask : masks) {
    if (servers_ && ServerOf(mask) < 0) continue;
    if (chains_ == Chains::kOneGpuGroup && gpus_used && (mask & gpus_) != 0) continue;
    groups.push_back(&GroupOf(mask));
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
    const bool member = (group & DeviceBit(i)) != 0;
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
    if ((mask & DeviceBit(i)) != 0) group.members.push_back(i);
  }
  group.members = exchanges_.RingOrder(group.members);
  MakeFloors(group);
  group.head_floor = solver_.HeadFloor(group.members, space_.first_rank);
  return group;
}

StageRequest LayoutSearch::RequestFor(const Group& group, int first, int end) const {
  StageRequest request;
  request.group = group.members;
  request.first_layer = first;
  request.end_layer = end;
  request.has_embed = first == 0;
  request.has_head = end == layers_;
  request.has_others = !(request.has_embed && request.has_head) && chains_ != Chains::kOneGpuGroup;
  request.first_rank = space_.first_rank;
  request.server = group.server;
  return request;
}

// Where all layers are of one class only their number counts.
int64_t LayoutSearch::SolutionKey(int first, int end) const {
  const int64_t from = tables_.num_classes() == 1 ? 0 : first;
  const int64_t ends = 2 * (first == 0) + (end == layers_);
  return ((from * (layers_ + 1)) + end - first) * 4 + ends;
}

// There is a plan, however slow.
bool LayoutSearch::Fits(Group& group, int first, int end) {
  Solution& solution = group.solutions[SolutionKey(first, end)];
  if (solution.plan) return true;
  if (!solution.fits) {
    const StageRequest request = RequestFor(group, first, end);
    solution.fits = solver_.Solve(request, kUnlimited, /*any=*/true).has_value();
  }
  return *solution.fits;
}

const absl::optional<StagePlan>& LayoutSearch::Solved(Group& group, int first, int end,
                                                      double limit) {
  const auto [entry, added] = group.solutions.try_emplace(SolutionKey(first, end));
  Solution& solution = entry->second;
  if (solution.plan || (!added && limit <= solution.tried_limit)) return solution.plan;
  solution.plan = solver_.Solve(RequestFor(group, first, end), limit, any_);
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
