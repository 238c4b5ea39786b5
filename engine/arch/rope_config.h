#pragma once

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The rotary embedding of a decoder's config: dims = head_dim times partial_rotary_factor, base,
// and scaling (linear, llama3, yarn, longrope). Divisors that a GGUF carries as tensors stay empty.
absl::StatusOr<RopeSpec> ReadRope(const Json& config, int64_t context_length, int head_dim);

}  // namespace tprun
