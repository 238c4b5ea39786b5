#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/model_spec.h"

namespace tprun {

// Models and weight types under the names that published measurements give them, for comparing our
// models of memory and speed with what others measured.

// "Llama 3 8B", "Qwen2.5-7B-Instruct", "meta-llama/Llama-2-7b-chat-hf": without formats. NotFound
// for a name that is not in the table.
absl::StatusOr<ModelSpec> PublishedModel(absl::string_view name);

// Sets the formats that a label stands for: "Q4_K_M", "Q4_K - Medium", "fp16", "BF16", "GPTQ-Int4",
// "AWQ", "int8". NotFound for a label that does not say what it is made of ("IQ4_K_R4").
absl::Status SetPublishedFormats(absl::string_view label, ModelSpec& spec);

}  // namespace tprun
