#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// gpt-oss (arXiv 2508.10925): every other layer with a sliding window, a learned sink per head,
// biases everywhere, a mixture of experts without shared ones.

namespace tprun {
namespace {

absl::StatusOr<bool> IsSliding(const Json& config, int layer) {
  const Json* types = FindMember(config, "layer_types");
  if (types == nullptr) return layer % 2 == 0;
  if (!types->is_array() || static_cast<int>(types->size()) <= layer) {
    return absl::InvalidArgumentError("\"layer_types\": wanted a list with one entry per layer");
  }
  return (*types)[layer] == "sliding_attention";
}

// Activation::kClampedSwiGlu has these numbers in it.
absl::Status CheckSwiGlu(const Json& config) {
  for (const auto& [key, wanted] : {std::pair("swiglu_alpha", 1.702), {"swiglu_limit", 7.0}}) {
    ASSIGN_OR_RETURN(const double found, GetDoubleOr(config, key, wanted));
    if (found == wanted) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\": supported is ", wanted, ", found ", found));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> BuildGptOss(const Json& config, Naming naming) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.attention = PlainAttention(numbers);
  layer.attention.qkv_bias = layer.attention.out_bias = true;
  layer.attention.sinks = true;
  if (naming == Naming::kGguf) layer.attention.rope.truncate = false;  // as the original's config
  ASSIGN_OR_RETURN(layer.mlp.experts, ReadExperts(config, &layer.mlp.ffn_dim, true));
  if (layer.mlp.experts.count == 0) {
    return absl::InvalidArgumentError("\"num_local_experts\" is missing");
  }
  layer.mlp.activation = Activation::kClampedSwiGlu;
  RETURN_IF_ERROR(CheckSwiGlu(config));
  layer.mlp.experts.normalize = true;
  layer.mlp.experts.router_bias = layer.mlp.experts.expert_biases = true;
  ModelSpec spec = StartSpec("gpt_oss", numbers);
  for (int i = 0; i < numbers.layers; ++i) {
    ASSIGN_OR_RETURN(const bool sliding, IsSliding(config, i));
    layer.attention.window = sliding ? numbers.sliding_window : 0;
    spec.layers.push_back(layer);
  }
  DecoderNames names = StandardNames(naming);
  if (naming == Naming::kHuggingFace) {
    // Gate and up are one tensor there, row by row in turns. Of floats it is [in, out]; mxfp4 is
    // two tensors, _blocks and _scales, of [out, in].
    const std::string experts = "model.layers.{i}.mlp.experts.";
    names.router = "model.layers.{i}.mlp.router.weight";
    names.expert_gate = names.expert_up = experts + "gate_up_proj";
    names.expert_down = experts + "down_proj";
    names.expert_gate_up_bias = experts + "gate_up_proj_bias";
    names.expert_down_bias = experts + "down_proj_bias";
    names.interleaved_experts = names.transposed_experts = true;
  } else {
    names.mlp_norm = "blk.{i}.post_attention_norm.weight";
    names.sinks = "blk.{i}.attn_sinks.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

}  // namespace

extern const Architecture kGptOss = {"gpt_oss", {"gpt_oss", "gpt-oss"}, BuildGptOss};

}  // namespace tprun
