#include <algorithm>

#include "partition/device_mask.h"
#include "partition/layout_search.h"

// What the layers that are left take at least: where the search cuts its branches.

namespace tprun {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// layers * bytes, kMostBytes at most.
int64_t Times(int layers, int64_t bytes) {
  return layers > 0 && bytes > kMostBytes / layers ? kMostBytes : layers * bytes;
}

}  // namespace

// Bytes that devices not in `used` have for layers, at most; where layers may lie on CPUs, those of
// GPUs.
int64_t LayoutSearch::RoomBeside(Mask used) const {
  return RoomOf(all_ & ~used & (mixed_ ? gpus_ : all_));
}

// Bytes that these devices have for layers, at most.
int64_t LayoutSearch::RoomOf(Mask devices) const {
  int64_t room = 0;
  for (int i = 0; i < static_cast<int>(devices_.size()); ++i) {
    if ((devices & DeviceBit(i)) == 0) continue;
    const int64_t bytes = devices_[i].usable_bytes - solver_.FixedBytes(i, 1, false);
    room = std::min(kMostBytes, room + std::max<int64_t>(0, bytes));
  }
  return room;
}

// What layers [layer, end) and the head take at least where GPUs have `room` for them: as many
// layers as there is room for are fast, those first that gain most by it (a part of a layer too).
double LayoutSearch::RestSeconds(int64_t room, int layer) const {
  double seconds = head_least_;
  for (size_t c = 0; c < bounds_.size(); ++c) {
    const int layers = layers_left_[layer][c];
    seconds += layers * bounds_[c].slow;
    room -= Times(layers, bounds_[c].fixed_bytes);
  }
  if (room < 0) return kUnlimited;
  for (int c : by_gain_) {
    const LayerBounds& bounds = bounds_[c];
    const int layers = layers_left_[layer][c];
    const int64_t bytes = Times(layers, bounds.movable_bytes);
    const double part = bytes <= room ? 1 : static_cast<double>(room) / static_cast<double>(bytes);
    seconds -= part * layers * (bounds.slow - bounds.fast);
    room -= std::min(room, bytes);
  }
  return seconds;
}

// The least that a hop from any device of `from` to the group takes; the first stage has none.
double LayoutSearch::LeastHop(Mask from, const Group& to) const {
  if (from == 0) return 0;
  double least = kUnlimited;
  for (int a = 0; a < static_cast<int>(devices_.size()); ++a) {
    if ((from & DeviceBit(a)) == 0) continue;
    for (int b : to.members) {
      least = std::min(least, exchanges_.Send(a, b, tables_.exchange_bytes()));
    }
  }
  return least;
}

void LayoutSearch::MakeFloors(Group& group) const {
  group.bytes = &layer_bytes_;
  group.room = 0;
  for (int device : group.members) {
    const int64_t room =
        devices_[device].usable_bytes -
        solver_.FixedBytes(device, static_cast<int>(group.members.size()), /*has_others=*/false);
    if (room > 0) group.room = std::min(kMostBytes, group.room + room);
  }
  if (group.server >= 0) return MakeServedFloors(group);
  const double exchange = 2 * exchanges_.AllReduce(group.members, tables_.exchange_bytes());
  group.floors = {0};
  group.others = {0};
  for (int layer = 0; layer < layers_; ++layer) {
    const int c = tables_.ClassOf(layer);
    group.floors.push_back(group.floors.back() + solver_.LayerFloor(group.members, c, -1));
    group.others.push_back(group.others.back() + tables_.Steps(c) * exchange);
  }
  MakeFill(group);
}

// Layers are as fast as the group has them as far as its memory goes; what is more of them is MLPs
// on the server.
void LayoutSearch::MakeServedFloors(Group& group) const {
  double more = kUnlimited;  // seconds of a byte there
  std::vector<double> least;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    const double own = solver_.LayerFloor(group.members, c, -1);
    const double served = solver_.ServedLayerFloor(group.members, c, group.server);
    const int64_t bytes = solver_.LayerBytes(c) - solver_.AttentionBytes(c);
    more = std::min(more, (served - own) / static_cast<double>(std::max<int64_t>(1, bytes)));
    least.push_back(std::min(own, served));
  }
  group.floors = {0};
  for (int layer = 0; layer < layers_; ++layer) {
    group.floors.push_back(group.floors.back() + least[tables_.ClassOf(layer)]);
  }
  group.others = group.floors;
  group.fill = {{0, 0, 0}};
  if (more <= 0) {  // the server is as fast: only attention has to be on the group
    group.bytes = &attention_bytes_;
    return;
  }
  group.fill.push_back({group.room, -more * static_cast<double>(group.room), more});
  group.room =
      std::min(kMostBytes, group.room + std::max<int64_t>(0, devices_[group.server].usable_bytes));
}

// Members take bytes in proportion to their speeds; the one that is full first takes no more.
void LayoutSearch::MakeFill(Group& group) const {
  struct Member {
    double room = 0;
    double seconds_per_byte = 0;
    double full_at() const { return room * seconds_per_byte; }
  };
  std::vector<Member> members;
  double rate = 0;  // bytes per second of those that are not full
  for (int device : group.members) {
    const int64_t room =
        devices_[device].usable_bytes -
        solver_.FixedBytes(device, static_cast<int>(group.members.size()), /*has_others=*/false);
    const double seconds = solver_.LeastSecondsPerByte(device);
    if (room <= 0 || !(seconds > 0)) continue;
    members.push_back({static_cast<double>(room), seconds});
    rate += 1 / seconds;
  }
  group.fill = {{0, 0, rate > 0 ? 1 / rate : 0}};
  std::sort(members.begin(), members.end(),
            [](const Member& a, const Member& b) { return a.full_at() < b.full_at(); });
  double full = 0;  // bytes on full members
  for (size_t i = 0; i + 1 < members.size(); ++i) {
    const double bytes = full + rate * members[i].full_at();
    full += members[i].room;
    rate -= 1 / members[i].seconds_per_byte;
    group.fill.push_back({static_cast<int64_t>(bytes), -full / rate, 1 / rate});
  }
}

// What no plan of these layers on the group can undercut.
double LayoutSearch::StageFloor(const Group& group, int first, int end) const {
  const double floor = group.floors[end] - group.floors[first];
  const int64_t bytes = (*group.bytes)[end] - (*group.bytes)[first];
  auto piece = group.fill.end() - 1;
  while (piece->from > bytes) --piece;
  const double spread = piece->intercept + piece->slope * static_cast<double>(bytes);
  return std::max(floor, group.others[end] - group.others[first] + spread);
}

// A dynamic programme from the last layer backwards, in which stages take their groups' least times
// and are as long as their groups' memory together lets them be. Of very many devices there are too
// many sets: nothing is known then.
const std::vector<double>& LayoutSearch::Rest(Mask used) {
  const auto [entry, added] = rest_.try_emplace(used);
  std::vector<double>& rest = entry->second;
  if (!added) return rest;
  const bool known = static_cast<int>(devices_.size()) <= kMostMixedDevices;
  rest.assign(layers_ + 1, known ? kUnlimited : 0);
  if (!known) return rest;
  for (const Group* group : NextGroups(used)) Extended(used, *group, rest);
  return rest;
}

// The least, for every first layer, of `value` of an end in a window that moves down with it: ends
// up to which the bytes from `first` on are at least `from` and at most `to`.
class LayoutSearch::EndWindow {
 public:
  EndWindow(const std::vector<int64_t>& bytes, int64_t from, int64_t to)
      : bytes_(bytes), from_(from), to_(to), next_(static_cast<int>(bytes.size()) - 1) {}

  // Goes on to `first`, which is one less each time; infinite where the window is empty.
  double Least(int first, const std::vector<double>& value) {
    // Ends come in from above, those with too few bytes wait.
    for (; next_ > first && bytes_[next_] - bytes_[first] >= from_; --next_) {
      while (ends_.size() > front_ && value[ends_.back()] >= value[next_]) ends_.pop_back();
      ends_.push_back(next_);
    }
    while (front_ < ends_.size() && bytes_[ends_[front_]] - bytes_[first] > to_) ++front_;
    return front_ < ends_.size() ? value[ends_[front_]] : kUnlimited;
  }

 private:
  const std::vector<int64_t>& bytes_;
  const int64_t from_;
  const int64_t to_;
  int next_;               // the next end that comes in
  std::vector<int> ends_;  // falling values from front_ on: the least in front
  size_t front_ = 0;
};

// The ways on which `group` has the first of the layers that are left.
void LayoutSearch::Extended(Mask used, const Group& group, std::vector<double>& rest) {
  const Mask then = used | group.mask;
  const double hop = LeastHop(used, group);
  const bool may_end = !space_.use_all || (then & required_) == required_;
  const std::vector<double>* after = then == all_ ? nullptr : &Rest(then);
  std::vector<double> beyond(layers_ + 1, kUnlimited);  // what follows a stage that ends there
  for (int end = 1; end < layers_ && after != nullptr; ++end) beyond[end] = (*after)[end];
  if (may_end) beyond[layers_] = group.head_floor;
  std::vector<double> so_far(layers_ + 1);
  std::vector<double> value(layers_ + 1);
  for (size_t i = 0; i < group.fill.size(); ++i) {
    const FillPiece& piece = group.fill[i];
    const int64_t to = i + 1 < group.fill.size() ? group.fill[i + 1].from : group.room;
    for (int end = 0; end <= layers_; ++end) {
      so_far[end] =
          i == 0 ? group.floors[end]
                 : group.others[end] + piece.slope * static_cast<double>((*group.bytes)[end]);
      value[end] = so_far[end] + beyond[end];
    }
    EndWindow window(*group.bytes, piece.from, to);
    const double intercept = i == 0 ? 0 : piece.intercept;
    for (int first = layers_ - 1; first >= 0; --first) {
      const double least = window.Least(first, value);
      rest[first] = std::min(rest[first], hop + intercept + least - so_far[first]);
    }
    solver_.AddWork(8 * layers_);
  }
}

void LayoutSearch::SumBytes() {
  layer_bytes_ = {0};
  attention_bytes_ = {0};
  const auto add = [](int64_t bytes, std::vector<int64_t>& sums) {
    sums.push_back(std::min(kMostBytes, sums.back() + bytes));
  };
  for (int layer = 0; layer < layers_; ++layer) {
    const int c = tables_.ClassOf(layer);
    add(solver_.LayerBytes(c), layer_bytes_);
    add(solver_.AttentionBytes(c), attention_bytes_);
  }
}

void LayoutSearch::MakeBounds() {
  const int classes = tables_.num_classes();
  std::vector<double> on_gpus(classes, kUnlimited);
  std::vector<double> on_cpus(classes, kUnlimited);  // the MLP alone where CPUs serve
  head_least_ = kUnlimited;
  for (const Group* group : NextGroups(0)) {
    head_least_ = std::min(head_least_, group->head_floor);
    const bool cpu = IsCpu(group->members[0]);
    for (int c = 0; c < classes; ++c) {
      double& least = cpu ? on_cpus[c] : on_gpus[c];
      least = std::min(least, solver_.LayerFloor(group->members, c, -1));
      if (!servers_) continue;
      on_cpus[c] = std::min(on_cpus[c], solver_.ServedLayerFloor(group->members, c, group->server));
    }
  }
  const bool gpus = on_gpus[0] < kUnlimited;
  mixed_ = gpus && on_cpus[0] < kUnlimited;
  bounds_.clear();
  by_gain_.clear();
  for (int c = 0; c < classes; ++c) {
    const int64_t bytes = solver_.LayerBytes(c);
    const double least = gpus ? on_gpus[c] : on_cpus[c];
    LayerBounds bounds = {least, least, bytes, 0};
    if (mixed_) {
      const int64_t attention = servers_ ? solver_.AttentionBytes(c) : 0;
      bounds = {std::min(on_gpus[c], on_cpus[c]), on_cpus[c], attention, bytes - attention};
    }
    bounds_.push_back(bounds);
    by_gain_.push_back(c);
  }
  const auto gain = [&](int c) {
    return (bounds_[c].slow - bounds_[c].fast) /
           static_cast<double>(std::max<int64_t>(1, bounds_[c].movable_bytes));
  };
  std::stable_sort(by_gain_.begin(), by_gain_.end(),
                   [&](int a, int b) { return gain(a) > gain(b); });
  layers_left_.assign(layers_ + 1, std::vector<int>(classes, 0));
  for (int layer = layers_ - 1; layer >= 0; --layer) {
    layers_left_[layer] = layers_left_[layer + 1];
    ++layers_left_[layer][tables_.ClassOf(layer)];
  }
}

}  // namespace tprun
