#pragma once

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The model that a checkpoint holds: its architecture's spec, with every tensor's presence, shape
// and format taken from the header. A bare config.json has no tensors: then all matrices are taken
// to be in `assumed`, or, if that is nullptr, in the config's own type (torch_dtype; bf16 if it
// does not say); matrices whose rows are no whole number of its blocks are f16.
//
// InvalidArgument: unknown architecture, missing or misshapen tensor, a format that cannot be read,
// `assumed` given for a checkpoint that has tensors of its own in another format.
absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint,
                                        const WeightFormat* assumed = nullptr);

}  // namespace tprun
