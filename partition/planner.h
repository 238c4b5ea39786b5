#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "partition/plan.h"
#include "topology/topology.h"

namespace tprun {

enum class Objective { kLatency, kThroughput, kContext };

// How layers go over ranks: every block over all ranks, or each layer on one rank.
enum class SplitMode { kTensor, kLayer };

struct PlanRequest {
  const ModelSpec* spec = nullptr;
  const Topology* topology = nullptr;
  std::vector<std::string> devices;  // one rank each, in order; a device may come several times
  EngineOptions options;
  Objective objective = Objective::kLatency;
  SplitMode split = SplitMode::kTensor;
  std::vector<double> shares;  // given proportions of the ranks; empty: the planner's choice
};

// Chooses placements for a model on devices. A plan that does not fit is returned too (see
// Plan::fits), with remedies; errors are for requests that make no sense (InvalidArgument,
// NotFound for an unknown device).
class Planner {
 public:
  virtual ~Planner() = default;
  virtual absl::StatusOr<Plan> MakePlan(const PlanRequest& request) const = 0;
};

// Shares in proportion to memory bandwidth (for kContext: to free memory), moved off devices that
// would be too full, in whole units.
std::unique_ptr<Planner> MakeProportionalPlanner();

absl::StatusOr<Objective> ParseObjective(absl::string_view name);
absl::string_view ObjectiveName(Objective objective);

// Whole numbers that add up to `total`, as near to the proportions as can be (largest remainder;
// ties to the lower index). Proportions are not negative and not all zero.
std::vector<int64_t> Apportion(int64_t total, const std::vector<double>& proportions);

// Fills in, by each rank's device in `topology`, its name, the memory that it may use (ranks on one
// device get equal parts), bandwidth and overhead. NotFound for a device that is not there.
absl::Status DescribeDevices(const Topology& topology, Plan& plan);

// Fills in the byte counts of plan.ranks from the layout, and the expected speed.
void PredictPlan(const ModelSpec& spec, Plan& plan);

}  // namespace tprun
