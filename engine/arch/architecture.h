#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/json.h"
#include "engine/model/model_spec.h"

namespace tprun {

// Whose tensor names, and whose layout of rotary pairs, a checkpoint uses.
enum class Naming { kHuggingFace, kGguf };

// A family of models: how its config becomes a ModelSpec (all but tensor formats).
//
// To add one: a file here with a `const Architecture`, one line in registry.cc, one test with a
// tiny seeded checkpoint (tests/golden/).
struct Architecture {
  absl::string_view name;
  // The config's "model_type" (for GGUF: general.architecture) that it reads.
  std::vector<absl::string_view> model_types;
  absl::StatusOr<ModelSpec> (*build)(const Json& config, Naming naming);
};

absl::Span<const Architecture* const> AllArchitectures();

// The architecture that reads `config`. InvalidArgument names the model type found and the
// supported ones.
absl::StatusOr<const Architecture*> FindArchitecture(const Json& config);

// As Mixtral in Hugging Face's naming; in GGUF it is called a llama.
absl::StatusOr<ModelSpec> BuildMixtral(const Json& config, Naming naming);

}  // namespace tprun
