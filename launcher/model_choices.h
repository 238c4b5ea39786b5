#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "partition/planner.h"

namespace tprun {

// What to open for a MODEL: mostly its own path. A folder without weights and config.json (Moshi's
// and Mimi's configs have other names) stands for the config in it; InvalidArgument where there are
// several that say different things.
absl::StatusOr<std::string> ModelPath(const std::string& model);

// The model with smaller weights, largest first, in the types that can be had: those that --weights
// takes for this checkpoint, else those that another file of the model could be of.
std::vector<SmallerModel> SmallerModels(const Checkpoint& checkpoint, const ModelSpec& spec);

}  // namespace tprun
