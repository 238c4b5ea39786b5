#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Phi-3 (arXiv 2404.14219): Llama with q|k|v and gate|up each in one tensor.

namespace tprun {
namespace {

absl::StatusOr<ModelSpec> BuildPhi3(const Json& config, Naming naming) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.attention = PlainAttention(numbers);
  layer.attention.window = numbers.sliding_window;
  layer.mlp = {.activation = Activation::kSilu, .ffn_dim = numbers.ffn_dim};
  ModelSpec spec = StartSpec("phi3", numbers);
  spec.layers.assign(numbers.layers, layer);
  DecoderNames names = StandardNames(naming);
  if (naming == Naming::kGguf) {
    names.query = names.key = names.value = "blk.{i}.attn_qkv.weight";
    names.gate = "blk.{i}.ffn_up.weight";
  } else {
    names.query = names.key = names.value = "model.layers.{i}.self_attn.qkv_proj.weight";
    names.gate = names.up = "model.layers.{i}.mlp.gate_up_proj.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

}  // namespace

extern const Architecture kPhi3 = {"phi3", {"phi3"}, BuildPhi3};

}  // namespace tprun
