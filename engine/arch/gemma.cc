#include <cmath>

#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Gemma 1 (arXiv 2403.08295; OpenChat-3.5-0106-gemma is one) and Gemma 2 (arXiv 2408.00118: soft
// caps, norms after each block too, every other layer with a sliding window).

namespace tprun {
namespace {

LayerSpec GemmaLayer(const ModelConfig& numbers, Naming naming) {
  LayerSpec layer;
  // GGUF files carry 1 + w already.
  layer.norm = {.eps = numbers.norm_eps, .unit_offset = naming == Naming::kHuggingFace};
  layer.attention = PlainAttention(numbers);
  layer.mlp = {.activation = Activation::kGeluTanh, .ffn_dim = numbers.ffn_dim};
  return layer;
}

ModelSpec StartGemma(absl::string_view architecture, const ModelConfig& numbers,
                     const LayerSpec& layer) {
  ModelSpec spec = StartSpec(architecture, numbers);
  spec.tied_head = true;
  spec.final_norm = layer.norm;
  spec.embedding_scale = std::sqrt(static_cast<float>(numbers.dim));
  return spec;
}

absl::StatusOr<ModelSpec> BuildGemma(const Json& config, Naming naming) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config, /*tied_by_default=*/true));
  // Released configs of Gemma 1 say "gelu" and mean the tanh form.
  RETURN_IF_ERROR(CheckActivation(config, {"gelu_pytorch_tanh", "gelu", "gelu_new"}));
  const LayerSpec layer = GemmaLayer(numbers, naming);
  ModelSpec spec = StartGemma("gemma", numbers, layer);
  spec.layers.assign(numbers.layers, layer);
  AddDecoderTensors(StandardNames(naming), spec);
  return spec;
}

absl::StatusOr<ModelSpec> BuildGemma2(const Json& config, Naming naming) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config, /*tied_by_default=*/true));
  // Released configs of Gemma 1 say "gelu" and mean the tanh form.
  RETURN_IF_ERROR(CheckActivation(config, {"gelu_pytorch_tanh", "gelu", "gelu_new"}));
  LayerSpec layer = GemmaLayer(numbers, naming);
  layer.post_norms = true;
  // The config of the 27B model (46 layers) scales by dim / heads; GGUF does not carry the number.
  const int64_t scale_dim = naming == Naming::kGguf && numbers.layers == 46
                                ? numbers.dim / numbers.heads
                                : numbers.head_dim;
  ASSIGN_OR_RETURN(const double query_scale,
                   GetDoubleOr(config, "query_pre_attn_scalar", scale_dim));
  layer.attention.scale = 1.0f / std::sqrt(static_cast<float>(query_scale));
  ASSIGN_OR_RETURN(const double softcap, GetDoubleOr(config, "attn_logit_softcapping", 0));
  layer.attention.logit_softcap = static_cast<float>(softcap);
  ModelSpec spec = StartGemma("gemma2", numbers, layer);
  ASSIGN_OR_RETURN(const double final_softcap, GetDoubleOr(config, "final_logit_softcapping", 0));
  spec.final_logit_softcap = static_cast<float>(final_softcap);
  for (int i = 0; i < numbers.layers; ++i) {
    layer.attention.window = i % 2 == 0 ? numbers.sliding_window : 0;
    spec.layers.push_back(layer);
  }
  DecoderNames names = StandardNames(naming);
  if (naming == Naming::kHuggingFace) {
    names.attention_post_norm = "model.layers.{i}.post_attention_layernorm.weight";
    names.mlp_norm = "model.layers.{i}.pre_feedforward_layernorm.weight";
    names.mlp_post_norm = "model.layers.{i}.post_feedforward_layernorm.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

}  // namespace

extern const Architecture kGemma = {"gemma", {"gemma"}, BuildGemma};
extern const Architecture kGemma2 = {"gemma2", {"gemma2"}, BuildGemma2};

}  // namespace tprun
