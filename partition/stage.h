#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "partition/exchanges.h"
#include "partition/layer_tables.h"
#include "partition/share_solver.h"

namespace tprun {

// A device that the search may put a rank on.
struct SearchDevice {
  std::string id;
  const DeviceInfo* info = nullptr;
  int host = 0;              // equal for devices of one host
  int64_t usable_bytes = 0;  // for one rank, sidecars already taken off
};

// A run of layers on a group of devices, in the search's terms: every attention block of the stage
// has the same shares, every MLP too (layers whose blocks have other units: shares of their own),
// embedding and head lie whole on one member or are cut in the fastest way. The MLPs of the first
// `offloaded` layers lie on `server`.
struct StageRequest {
  std::vector<int> group;  // devices, in the order of their exchanges
  int first_layer = 0;
  int end_layer = 0;
  bool has_embed = false;
  bool has_head = false;
  bool has_others = false;  // the plan has GPUs outside the group
  int first_rank = -1;      // the member that is the plan's rank 0, or -1
  int server = -1;          // a CPU of the group's host that may take MLPs, or -1
  int64_t server_bytes = std::numeric_limits<int64_t>::max();  // of it at most, if it has them
};

struct StagePlan {
  double seconds = 0;  // of one pass, exchanges inside the stage included
  int replication = 1;
  std::map<int, std::vector<int64_t>> attention;  // shares by layer class
  std::map<int, std::vector<int64_t>> mlp;
  Placement embed;  // ranks are devices
  Placement head;
  int offloaded = 0;
  int64_t server_bytes = 0;         // taken on the server
  int64_t server_shared_bytes = 0;  // of them, what stages on one server take but once
};

// Finds the fastest plan of stages. Not thread-safe; all arguments outlive it.
class StageSolver {
 public:
  StageSolver(const LayerTables& tables, const std::vector<SearchDevice>& devices,
              const Exchanges& exchanges);

  // The fastest plan that fits and takes less than `limit`, or nothing.
  // With `any` the first that is found.
  absl::optional<StagePlan> Solve(const StageRequest& request,
                                  double limit = std::numeric_limits<double>::infinity(),
                                  bool any = false) const;

  // About how many steps all Solves together took; one is about a nanosecond.
  int64_t work() const { return work_; }
  // Steps of others that count towards the same limit.
  void AddWork(int64_t steps) { work_ += steps; }
  // Solve gives up, with what it has, when all together took this many.
  void set_most_work(int64_t steps) { most_work_ = steps; }
  bool tired() const { return work_ > most_work_; }

  // What no plan of a layer of this class on the group can undercut, memory left aside.
  double LayerFloor(const std::vector<int>& group, int layer_class, int server) const;

  // Of any part of a layer on the device, at least; nothing but memory and arithmetic.
  double LeastSecondsPerByte(int device) const;

  // What no plan's head on the group can undercut.
  double HeadFloor(const std::vector<int>& group, int first_rank) const;

  // The same with the MLP on the server.
  double ServedLayerFloor(const std::vector<int>& group, int layer_class, int server) const;

  // Bytes of a layer of this class at least, wherever its blocks lie; and of its attention alone.
  int64_t LayerBytes(int layer_class) const;
  int64_t AttentionBytes(int layer_class) const;

  // What the rank of a device has besides blocks: overheads, workspaces.
  int64_t FixedBytes(int device, int group_size, bool has_others) const;

 private:
  struct Ends {
    double seconds = 0;
    Placement embed;
    Placement head;
  };
  struct Counts {
    std::vector<int> all;       // layers of the stage by class
    std::vector<int> on_group;  // of those with their MLP on the group
  };
  // Least seconds of a block by class; empty: not worked out.
  struct ClassFloors {
    std::vector<double> attention;
    std::vector<double> mlp;
  };
  // What the stage's blocks take at least, exchanges left aside.
  double FloorOf(const std::vector<int>& group, const Counts& counts, int replication,
                 ClassFloors& floors) const;
  // Embedding and head in every way there is, fastest first.
  const std::vector<Ends>& EndOptions(const StageRequest& request) const;
  std::vector<Placement> EndPlacements(BlockKind kind, const std::vector<int>& group) const;
  double EndSeconds(const StageRequest& request, const Ends& ends) const;
  Counts CountLayers(const StageRequest& request) const;  // with no MLP on the server
  double ExchangeSeconds(const StageRequest& request, const Counts& counts) const;
  double ServerSeconds(const StageRequest& request, const Counts& counts) const;
  // All of them, and those that are taken but once.
  std::pair<int64_t, int64_t> ServerBytes(const StageRequest& request, const Counts& counts) const;
  // Tables of the classes whose blocks have as many units as the largest part of the stage, added
  // up: their blocks share one vector of shares. The other classes get the vector that is fastest
  // for them.
  struct Combined {
    int64_t units = 0;
    bool by_offset = false;
    std::vector<std::vector<double>> seconds;  // [member][cell]
    std::vector<int64_t> bytes;                // [cell]
    std::vector<int64_t> workspace;            // [cell]
    std::vector<bool> is_main;                 // by class
  };
  // All of a stage but its ends.
  struct Prepared {
    StagePlan plan;
    ShareProblem problem;        // without capacities
    std::vector<int64_t> fixed;  // bytes by member
    double seconds = 0;
    std::vector<bool> attention_is_main;
    std::vector<bool> mlp_is_main;
  };
  static void Accumulate(const ShareTable& table, const std::vector<int>& group, int count,
                         Combined& combined);
  static Combined Nothing(size_t members);
  void Combine(BlockKind kind, const StageRequest& request, const std::vector<int>& layers,
               int replication, Prepared& prepared, Combined& combined,
               std::map<int, std::vector<int64_t>>& shares) const;
  Prepared Prepare(const StageRequest& request, const Counts& counts, int replication) const;
  absl::optional<StagePlan> SolveOne(const StageRequest& request, const Counts& counts,
                                     const Ends& ends, Prepared& prepared, double limit) const;
  bool ServerIsSlower(const StageRequest& request, const Counts& counts) const;
  // False when even all members' memory together would be too little.
  bool MayFit(const StageRequest& request, const Counts& counts) const;
  std::vector<int64_t> FastestOf(const ShareTable& table, const std::vector<int>& group) const;
  double AttentionFloor(const std::vector<int>& group, int layer_class) const;
  double FastestSeconds(BlockKind kind, const std::vector<int>& group, int layer_class,
                        int replication) const;

  const LayerTables& tables_;
  const std::vector<SearchDevice>& devices_;
  const Exchanges& exchanges_;
  // [device][2 * (group size - 1) + has others], -1: not worked out.
  mutable std::vector<std::vector<int64_t>> fixed_;
  mutable std::vector<double> seconds_per_byte_;  // by device, negative: not worked out
  mutable int64_t work_ = 0;
  int64_t most_work_ = std::numeric_limits<int64_t>::max();
  mutable std::map<std::tuple<BlockKind, std::vector<int>, int, int>, double> fastest_;
  mutable std::map<std::tuple<std::vector<int>, bool, bool>, std::vector<Ends>> ends_;
};

}  // namespace tprun
