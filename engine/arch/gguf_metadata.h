#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/model/model_spec.h"

namespace tprun {

// general.architecture of a model's GGUF form. InvalidArgument: it has none.
absl::StatusOr<std::string> GgufArchitecture(const ModelSpec& spec);

// general.architecture, general.name and the architecture's keys that tell of `spec`, as llama.cpp
// reads them. What a file tells by the presence of tensors is not among them.
Json GgufMetadata(const ModelSpec& spec, const std::string& architecture);

}  // namespace tprun
