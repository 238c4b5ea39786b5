#pragma once

#include "absl/status/status.h"
#include "partition/candidates.h"
#include "partition/layout_search.h"
#include "partition/planner.h"

namespace tprun {

// Steps from a request to a plan's placements.

// The layouts that a request allows.
SearchSpace SpaceFor(const PlanRequest& request);

// The fastest layout for these options, `more_bytes` more on every device than there are. Nothing
// where none fits or all take `limit` seconds or longer per step.
absl::optional<Layout> FindLayout(const PlanRequest& request, const Candidates& candidates,
                                  const EngineOptions& options, int64_t more_bytes = 0,
                                  double limit = std::numeric_limits<double>::infinity());

// Sets the plan's ranks and placements, and all that follows from them.
absl::Status ApplyLayout(const PlanRequest& request, const Candidates& candidates,
                         const Layout& layout, Plan& plan);

// The best layout for the request's objective. Where nothing fits the layout that is the least
// short, so that it can be told what is missing where.
absl::Status FindPlan(const PlanRequest& request, const Candidates& candidates, Plan& plan);

// Places in the request's proportions.
absl::Status PlaceAsGiven(const PlanRequest& request, const Candidates& candidates, Plan& plan);

}  // namespace tprun
