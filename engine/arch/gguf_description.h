#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/model/model_spec.h"

namespace tprun {

// A Hugging Face model as a GGUF file describes it.
struct GgufDescription {
  // Its tensors are those of the original, in the same order, under GGUF's names. Where its rotary
  // pairs are laid out otherwise, rows of q and k change places; where its norms have no unit
  // offset, one is added to them; kKeyUp becomes kKeyUpTransposed. Frequencies of Llama 3 are in
  // rope.factors.
  ModelSpec spec;
  Json metadata;     // general.architecture and the keys of the architecture
  std::string note;  // what GGUF cannot tell of the model, usually ""
};

// The spec is what a file with that metadata is read as. InvalidArgument: an architecture that GGUF
// does not have, or a model whose GGUF form would compute something else.
absl::StatusOr<GgufDescription> DescribeAsGguf(const ModelSpec& original);

// The first thing, by name, in which the models compute something else, "" if there is none. How
// rotary pairs are laid out, whether norms have a unit offset, and names and formats of tensors do
// not count.
std::string DifferenceOf(const ModelSpec& a, const ModelSpec& b);

}  // namespace tprun
