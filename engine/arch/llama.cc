#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Llama 2, 3, 3.1, 3.2, TinyLlama and, in GGUF, Mistral (arXiv 2307.09288, 2407.21783); Mistral in
// Hugging Face's naming differs by its sliding window (arXiv 2310.06825).

namespace tprun {
namespace {

absl::StatusOr<ModelSpec> BuildLlama(absl::string_view architecture, const Json& config,
                                     Naming naming, bool sliding_window) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  ASSIGN_OR_RETURN(const bool attention_bias, GetBoolOr(config, "attention_bias", false));
  ASSIGN_OR_RETURN(const bool mlp_bias, GetBoolOr(config, "mlp_bias", false));
  ASSIGN_OR_RETURN(const int64_t experts, GetIntOr(config, "num_local_experts", 0));
  if (experts > 0 && naming == Naming::kGguf) return BuildMixtral(config, naming);
  if (experts > 0) {
    return absl::InvalidArgumentError("a mixture of experts of \"model_type\" llama is unknown");
  }
  if (mlp_bias) return absl::InvalidArgumentError("\"mlp_bias\": true is not supported");
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.attention = PlainAttention(numbers);
  layer.attention.qkv_bias = layer.attention.out_bias = attention_bias;
  layer.attention.window = sliding_window ? numbers.sliding_window : 0;
  // The GGUF converter permutes the rows of q and k back to interleaved pairs.
  layer.attention.rope.layout =
      naming == Naming::kGguf ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit;
  layer.mlp = {.activation = Activation::kSilu, .ffn_dim = numbers.ffn_dim};
  ModelSpec spec = StartSpec(architecture, numbers);
  spec.layers.assign(numbers.layers, layer);
  AddDecoderTensors(StandardNames(naming), spec);
  return spec;
}

}  // namespace

extern const Architecture kLlama = {"llama", {"llama"}, [](const Json& config, Naming naming) {
                                      return BuildLlama("llama", config, naming, false);
                                    }};

extern const Architecture kMistral = {
    "mistral", {"mistral"}, [](const Json& config, Naming naming) {
      return BuildLlama("mistral", config, naming, true);
    }};

}  // namespace tprun
