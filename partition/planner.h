#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "partition/cost_model.h"
#include "partition/load_memory.h"
#include "partition/memory_model.h"
#include "partition/plan.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"

namespace tprun {

// latency: the soonest next token of the sequences asked for. throughput: the most tokens per
// second of all sequences together, with as many of them as are worth it. context: the most
// positions in the KV cache, and the fastest layout that has them.
enum class Objective { kLatency, kThroughput, kContext };

// How layers go over ranks: as the planner finds best, every block over all ranks, or each layer on
// one rank.
enum class SplitMode { kAuto, kTensor, kLayer };

// A model with smaller weights than the request's.
struct SmallerModel {
  std::string text;  // how to have it: "--weights=q8_0"
  ModelSpec spec;
};

struct PlanRequest {
  const ModelSpec* spec = nullptr;
  const Topology* topology = nullptr;
  // One rank each, in order; a device may come several times. Empty: the planner chooses among all.
  std::vector<std::string> devices;
  EngineOptions options;
  // A context beyond the model's is an error, or only worth a note.
  bool allow_long_context = false;
  bool sidecars_on_cpu = false;  // those that may run there
  Objective objective = Objective::kLatency;
  bool choose_batch = false;  // kThroughput: options.batch is not given
  SplitMode split = SplitMode::kAuto;
  std::vector<double> shares;  // given proportions of the ranks; empty: the planner's choice
  MemoryLimits limits;
  Coefficients coefficients = DefaultCoefficients();
  LoadBuffers load_buffers;  // may be empty: what loading takes is then not told
  int threads = 0;           // of each rank; 0: as ThreadsOf says
  int64_t depth = -1;        // positions in the cache that speeds are for; -1: 512 (of frames all)
  double min_tokens_per_s = 0;  // of each sequence; 0: the model's own need (speech), if any
  // For remedies; both may be empty. The smaller models that can be had, largest first; cards that
  // can be bought.
  std::function<std::vector<SmallerModel>()> smaller_models;
  const GpuCatalogue* catalogue = nullptr;
  // Work out what was rejected, remedies, and where nothing fits the layout that is least short.
  bool advise = true;
};

// Chooses placements for a model on devices. A plan that does not fit is returned too (see
// Plan::fits), with remedies; errors are for requests that make no sense (InvalidArgument,
// NotFound for an unknown device).
class Planner {
 public:
  virtual ~Planner() = default;
  virtual absl::StatusOr<Plan> MakePlan(const PlanRequest& request) const = 0;
};

// The fastest layout under the cost model that fits under the memory model; see layout_search.h for
// which layouts there are, docs/planning.md for the models.
std::unique_ptr<Planner> MakePlanner();

absl::StatusOr<Objective> ParseObjective(absl::string_view name);
absl::string_view ObjectiveName(Objective objective);
absl::StatusOr<SplitMode> ParseSplitMode(absl::string_view name);

// Whole numbers that add up to `total`, as near to the proportions as can be (largest remainder;
// ties to the lower index). Proportions are not negative and not all zero.
std::vector<int64_t> Apportion(int64_t total, const std::vector<double>& proportions);

// Placements in given proportions of the ranks: every block over all ranks, or whole layers.
std::vector<Placement> TensorPlacements(const ModelSpec& spec,
                                        const std::vector<double>& proportions);
std::vector<Placement> LayerPlacements(const ModelSpec& spec,
                                       const std::vector<double>& proportions);

// Fills in, by each rank's device in `topology`, its name, the memory that it may use (ranks on one
// device get equal parts), bandwidth, and what others allocate for the plan's placements. NotFound
// for a device that is not there.
absl::Status DescribeDevices(const Topology& topology, Plan& plan, const MemoryLimits& limits = {});

// Fills in the byte counts of plan.ranks from the layout, and the speeds that the cost model
// expects. The plan's devices are in `topology`.
absl::Status PredictPlan(const ModelSpec& spec, const Topology& topology,
                         const Coefficients& coefficients, Plan& plan);

}  // namespace tprun
