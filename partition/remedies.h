#pragma once

#include "absl/status/status.h"
#include "partition/planner.h"

namespace tprun {

// Fills in plan.remedies: what would make the request's plan fit and be as fast as is asked for.
// Each change is planned anew and told with its speed, in the order of what it costs the user;
// those that fit but are too slow come after, marked. Where no single change is enough, pairs of
// them.
absl::Status FindRemedies(const Planner& planner, const PlanRequest& request, Plan& plan);

}  // namespace tprun
