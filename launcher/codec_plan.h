#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "base/json.h"
#include "launcher/model_options.h"

namespace tprun {

// The codec's config that `model` names: the file, or the only config in a folder of that kind.
// Nothing where it is something else, which opening it as a model will tell.
absl::optional<Json> FindCodecConfig(const std::string& model);

// What the codec needs and where it fits, as text.
struct CodecPlan {
  std::string text;
  absl::Status fits;  // ResourceExhausted: on no device
};
absl::StatusOr<CodecPlan> PlanCodec(const Json& config, const ModelOptions& options);

}  // namespace tprun
