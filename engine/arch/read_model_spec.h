#pragma once

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The model that a checkpoint holds: its architecture's spec, with every tensor's presence, shape
// and format taken from the header. A bare config.json has no tensors: their formats are taken from
// `assumed` or the config, see AssumeFormats. Where there are tensors and `assumed` is given, it is
// what their matrices are converted to on loading, see ConvertFormats. A GGUF file of an
// architecture that is not known here is planned by the names of its tensors.
//
// A model that the engine cannot run says so in not_runnable. InvalidArgument: unknown
// architecture, missing or misshapen tensor, a type of unknown size, an `assumed` that the tensors
// cannot be converted to.
absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint,
                                        const WeightFormat* assumed = nullptr);

}  // namespace tprun
