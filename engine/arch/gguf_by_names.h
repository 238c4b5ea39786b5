#pragma once

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model_spec.h"

namespace tprun {

// A GGUF model of an architecture that is not known here, for planning only: the numbers that all
// architectures share, and each tensor put into a block by its name. What is neither a projection
// of attention nor of an MLP is held whole by every rank of the block's group.
absl::StatusOr<ModelSpec> SpecFromTensorNames(const Checkpoint& checkpoint);

}  // namespace tprun
