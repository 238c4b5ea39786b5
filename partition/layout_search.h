#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "partition/stage.h"

namespace tprun {

// Which layouts are looked at. All of them are chains of stages (see stage.h) over groups of
// devices of one kind that have no device in common; among more than kMostMixedDevices devices a
// group lies within one host.
struct SearchSpace {
  bool use_all = false;         // every device has a rank
  bool one_stage = false;       // tensor parallel only
  bool single_devices = false;  // groups of one: layer split only
  bool offload = true;          // MLPs of a GPU stage may lie on a CPU of its host
  int first_rank = -1;          // the device that is rank 0; -1: one that has the head
};

inline constexpr int kMostMixedDevices = 10;
inline constexpr int kMostDevices = 64;

struct LayoutStage {
  StageRequest request;
  StagePlan plan;
};

struct Layout {
  double seconds = 0;  // of one pass
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

 private:
  using Mask = uint64_t;
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
  };

  // What is known of a group, worked out once.
  struct Group {
    Mask mask = 0;
    int number = 0;   // index into hops_
    int server = -1;  // the CPU that may take its MLPs, -1: none
    std::vector<int> members;
    std::vector<double> floors;  // sums over the layers before
    double head_floor = 0;
    std::map<int64_t, Solution> solutions;  // by what of the model the stage has
  };

  void RunStages(bool servers);
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
  void MakeRest();
  StageRequest RequestFor(const Group& group, int first, int end) const;
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
  Mask required_ = 0;  // must be in groups where all have to be used
  double limit_ = 0;
  absl::optional<Layout> best_;
  std::map<StateKey, std::vector<Step>> states_;
  std::vector<double> rest_;  // what layers [i, end) and the head take at least
  bool servers_ = false;      // CPUs take MLPs instead of being stages
  std::map<Mask, std::vector<Group*>> next_;
  std::map<Mask, Group> groups_;
  std::vector<std::vector<double>> hops_;  // [from][to], negative: not worked out
};

}  // namespace tprun
