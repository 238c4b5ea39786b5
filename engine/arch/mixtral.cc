#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Mixtral (arXiv 2401.04088): Mistral with a mixture of experts for its MLP. In GGUF it is a
// `llama` with experts, which kLlama hands on to here.

namespace tprun {

absl::StatusOr<ModelSpec> BuildMixtral(const Json& config, Naming naming) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.attention = PlainAttention(numbers);
  layer.attention.window = numbers.sliding_window;
  layer.attention.rope.layout =
      naming == Naming::kGguf ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit;
  ASSIGN_OR_RETURN(layer.mlp.experts, ReadExperts(config, &layer.mlp.ffn_dim, true));
  if (layer.mlp.experts.count == 0) {
    return absl::InvalidArgumentError("\"num_local_experts\" is missing");
  }
  layer.mlp.experts.normalize = true;
  ModelSpec spec = StartSpec("mixtral", numbers);
  spec.layers.assign(numbers.layers, layer);
  DecoderNames names = StandardNames(naming);
  if (naming == Naming::kHuggingFace) {
    const std::string mlp = "model.layers.{i}.block_sparse_moe.";
    names.router = mlp + "gate.weight";
    names.expert_gate = mlp + "experts.{e}.w1.weight";
    names.expert_up = mlp + "experts.{e}.w3.weight";
    names.expert_down = mlp + "experts.{e}.w2.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

extern const Architecture kMixtral = {"mixtral", {"mixtral"}, BuildMixtral};

}  // namespace tprun
