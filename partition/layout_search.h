#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "partition/device_mask.h"
#include "partition/stage.h"

namespace tprun {

// A search ends after so many steps (StageSolver::work), some tenths of a second.
inline constexpr int64_t kMostWork = 150'000'000;

// Which layouts are looked at. All of them are chains of stages (see stage.h) over groups of
// devices of one kind that have no device in common; among more than kMostMixedDevices devices a
// group lies within one host.
struct SearchSpace {
  bool use_all = false;         // every device has a rank
  bool one_stage = false;       // tensor parallel only
  bool single_devices = false;  // groups of one: layer split only
  bool offload = true;          // MLPs of a GPU stage may lie on a CPU of its host
  int first_rank = -1;          // the device that is rank 0; -1: one that has the head
  int64_t most_work = kMostWork;
  bool bounded = false;  // of a layout that is not proven also tell what none can undercut
};

inline constexpr int kMostMixedDevices = 10;
inline constexpr int kMostDevices = 64;

struct LayoutStage {
  StageRequest request;
  StagePlan plan;
};

struct Layout {
  double seconds = 0;        // of one pass
  bool proven = true;        // no layout is faster; else the search was ended before it knew
  double least_seconds = 0;  // no layout takes less; 0: not known (see SearchSpace::bounded)
  std::vector<LayoutStage> stages;
  std::vector<int> layer_classes;  // by layer, what the stages' shares are for
};

// Classes of devices that are interchangeable: of one host or alone on theirs, equal themselves and
// with equal ways to all others. `first_rank` is a class of its own.
std::vector<int> ClassesOf(const std::vector<SearchDevice>& devices,
                           const std::vector<DeviceRates>& rates,
                           const TopologyExchanges& exchanges, int first_rank);

// The fastest layout that fits: a dynamic programme over (devices used, last group, layers placed),
// where of interchangeable devices the lowest numbers are used first and branches that cannot beat
// the best layout found so far are cut. At most kMostDevices devices. Exact for models whose layers
// cost the devices the same in proportion, see docs/planning.md.
class LayoutSearch {
 public:
  // `classes` by device, see ClassesOf; all arguments outlive it.
  LayoutSearch(const LayerTables& tables, const std::vector<SearchDevice>& devices,
               std::vector<int> classes, const Exchanges& exchanges, const SearchSpace& space);

  // Nothing when no layout fits or all take `limit` or longer.
  absl::optional<Layout> Best(double limit = std::numeric_limits<double>::infinity());

  // Whether there is a layout at all below the limit: the search ends with the first.
  bool Any(double limit = std::numeric_limits<double>::infinity());

 private:
  using Mask = DeviceMask;
  // The fastest way to have placed so many layers, and how it came about.
  struct Step {
    double seconds = std::numeric_limits<double>::infinity();
    Mask group_before = 0;
    int first_layer = 0;
  };
  using StateKey = std::tuple<int, Mask, Mask>;  // devices used, how many and which; last group
  struct Solution {
    absl::optional<StagePlan> plan;
    double tried_limit = 0;  // without a plan: none is faster than this
    absl::optional<bool> fits;
  };

  // Least seconds of bytes of layers spread over a group's members by their speeds and, from where
  // one is full, over the others: `intercept + slope * bytes` from so many bytes on.
  struct FillPiece {
    int64_t from = 0;
    double intercept = 0;
    double slope = 0;
  };

  class EndWindow;

  // What is known of a group, worked out once.
  struct Group {
    Mask mask = 0;
    int number = 0;   // index into hops_
    int server = -1;  // the CPU that may take its MLPs, -1: none
    std::vector<int> members;
    std::vector<double> floors;  // sums over the layers before
    // Sums of what is in them beside what `fill` tells, of the bytes of layers in `bytes`.
    std::vector<double> others;
    std::vector<FillPiece> fill;  // from 0 bytes
    const std::vector<int64_t>* bytes = nullptr;
    int64_t room = 0;  // for them, at most
    double head_floor = 0;
    std::map<int64_t, Solution> solutions;  // by what of the model the stage has
  };

  // Which chains of stages are looked at: any; those with one group of GPUs at most, which need no
  // NCCL for hops; those whose MLPs may lie on CPUs that are no stages.
  enum class Chains { kAny, kOneGpuGroup, kServed };
  void RunStages(Chains chains);
  void Begin(Chains chains);
  double LeastSeconds();
  void Seed();
  void EvenOut(Layout& layout);
  bool ShareServers(Layout& layout);
  absl::optional<Layout> Shared(const Layout& layout, const std::vector<size_t>& stages,
                                bool in_proportion, int64_t asked) const;
  double FillOf(const StageRequest& request, const StagePlan& plan) const;
  bool Done() const { return (any_ && best_.has_value()) || Tired(); }
  // Where very many unlike devices are all too small, proving what is fastest would take minutes.
  bool Tired() const { return solver_.tired(); }
  void Extend(const StateKey& key, int layer, double seconds);
  void ExtendTo(const StateKey& key, int layer, double seconds, Group& group);
  void Finish(const StateKey& key, int layer, double before, Group& group);
  absl::optional<Layout> Trace(StateKey key, int layer, Group& last);

  const std::vector<Group*>& NextGroups(Mask used);
  void AddGroups(const std::vector<int>& devices, Mask used, std::vector<Mask>& groups) const;
  bool MayGroup(Mask group, Mask used) const;
  bool IsCpu(int device) const;
  Group& GroupOf(Mask mask);
  int ServerOf(Mask group) const;
  void SumBytes();
  void MakeBounds();
  // Least seconds of the hop into the next stage, layers [layer, end) and the head on devices not
  // in `used`, by layer; infinite where they do not fit there. Times are those of LayerFloor.
  const std::vector<double>& Rest(Mask used);
  void Extended(Mask used, const Group& group, std::vector<double>& rest);
  double LeastHop(Mask from, const Group& to) const;
  void MakeFloors(Group& group) const;
  void MakeServedFloors(Group& group) const;
  void MakeFill(Group& group) const;
  double StageFloor(const Group& group, int first, int end) const;
  int64_t RoomBeside(Mask used) const;
  int64_t RoomOf(Mask devices) const;
  double RestSeconds(int64_t room, int layer) const;
  StageRequest RequestFor(const Group& group, int first, int end) const;
  int64_t SolutionKey(int first, int end) const;
  bool Fits(Group& group, int first, int end);
  const absl::optional<StagePlan>& Solved(Group& group, int first, int end, double limit);
  double Hop(const Group& from, const Group& to);

  const LayerTables& tables_;
  const std::vector<SearchDevice>& devices_;
  std::vector<int> classes_;
  std::vector<int> host_classes_;  // by host
  const Exchanges& exchanges_;
  SearchSpace space_;
  StageSolver solver_;
  int layers_;
  Mask all_ = 0;
  Mask gpus_ = 0;
  Mask required_ = 0;  // must be in groups where all have to be used
  double limit_ = 0;
  absl::optional<Layout> best_;
  std::map<StateKey, std::vector<Step>> states_;
  // What a layer of a class takes at least: with all of it on GPUs, or the part on a CPU that may
  // be there. Where there is no such part both are the same.
  struct LayerBounds {
    double fast = 0;  // seconds
    double slow = 0;
    int64_t fixed_bytes = 0;    // on devices that are not CPUs, even if slow
    int64_t movable_bytes = 0;  // more of them, to be fast
  };
  std::vector<LayerBounds> bounds_;            // by class
  std::vector<std::vector<int>> layers_left_;  // [layer][class], of [layer, end)
  std::vector<int> by_gain_;  // classes, those first that gain most by a byte on GPUs
  bool mixed_ = false;        // layers may lie on GPUs and on CPUs
  double head_least_ = 0;
  std::vector<int64_t> layer_bytes_;      // of the layers before
  std::vector<int64_t> attention_bytes_;  // of their attention alone
  std::map<Mask, std::vector<double>> rest_;
  bool any_ = false;  // the first layout is enough
  Chains chains_ = Chains::kAny;
  bool servers_ = false;  // kServed: CPUs take MLPs instead of being stages
  std::map<Mask, std::vector<Group*>> next_;
  std::map<Mask, Group> groups_;
  std::vector<std::vector<double>> hops_;  // [from][to], negative: not worked out
};

}  // namespace tprun
