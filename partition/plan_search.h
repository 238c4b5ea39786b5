#pragma once

#include "absl/status/status.h"
#include "partition/candidates.h"
#include "partition/layout_search.h"
#include "partition/planner.h"

namespace tprun {

// Steps from a request to a plan's placements.

// The layouts that a request allows.
SearchSpace SpaceFor(const PlanRequest& request);

// The most seconds that a pass may take so that each sequence is as fast as is asked for.
double StepLimit(const PlanRequest& request);

// Layouts for these options, with `more_bytes` more on every device than there are. Keeps the
// tables of bytes and seconds, which are what takes longest to make.
class LayoutFinder {
 public:
  // Request and candidates outlive it.
  LayoutFinder(const PlanRequest& request, const Candidates& candidates,
               const EngineOptions& options);

  // The fastest; nothing where none fits or all take `limit` seconds or longer per step.
  absl::optional<Layout> Best(int64_t more_bytes = 0,
                              double limit = std::numeric_limits<double>::infinity()) const;
  // Whether there is one.
  bool Any(int64_t more_bytes = 0, double limit = std::numeric_limits<double>::infinity()) const;

 private:
  std::vector<SearchDevice> DevicesWith(int64_t more_bytes) const;

  const PlanRequest& request_;
  const Candidates& candidates_;
  const EngineOptions options_;
  const LayerTables tables_;
};

// Sets the plan's ranks and placements, and all that follows from them.
absl::Status ApplyLayout(const PlanRequest& request, const Candidates& candidates,
                         const Layout& layout, Plan& plan);

// The best layout for the request's objective. Where nothing fits the layout that is the least
// short, so that it can be told what is missing where.
absl::Status FindPlan(const PlanRequest& request, const Candidates& candidates, Plan& plan);

// Places in the request's proportions.
absl::Status PlaceAsGiven(const PlanRequest& request, const Candidates& candidates, Plan& plan);

}  // namespace tprun
