#pragma once

#include "absl/status/status.h"
#include "partition/candidates.h"
#include "partition/planner.h"

namespace tprun {

// "cuda:0 alone", "tensor parallel on cuda:0, cuda:1", "layers on cuda:0 then cpu".
std::string LayoutName(const Plan& plan);

// Fills in why the plan's layout was taken and which others were not, each with its speed; where it
// does not fit, or is slower than asked for, also what would help: each remedy planned anew with
// `planner`, cheapest first.
absl::Status Advise(const Planner& planner, const PlanRequest& request,
                    const Candidates& candidates, Plan& plan);

}  // namespace tprun
