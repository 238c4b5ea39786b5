#pragma once

#include <string>

#include "engine/model/model_spec.h"

namespace tprun {

// What of a model the engine has no code for yet, as half a sentence; "" if it can run it. Formats
// of tensors must be set.
std::string WhyNotRunnable(const ModelSpec& spec);

}  // namespace tprun
