#include <algorithm>

#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Qwen 1.5 / 2 MoE (routed experts and a gated shared one; arXiv 2407.10671) and Qwen 3 MoE (routed
// ones only; arXiv 2505.09388). Some layers may have a dense MLP.

namespace tprun {
namespace {

absl::StatusOr<bool> IsDense(const Json& config, int layer) {
  ASSIGN_OR_RETURN(const int64_t step, GetIntOr(config, "decoder_sparse_step", 1));
  if (step < 1) return absl::InvalidArgumentError("\"decoder_sparse_step\": wanted at least 1");
  if ((layer + 1) % step != 0) return true;
  const Json* dense = FindMember(config, "mlp_only_layers");
  return dense != nullptr && dense->is_array() &&
         std::find(dense->begin(), dense->end(), layer) != dense->end();
}

absl::StatusOr<ModelSpec> BuildQwenMoe(absl::string_view architecture, const Json& config,
                                       Naming naming, bool first_generation) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.attention = PlainAttention(numbers);
  layer.attention.qkv_bias = first_generation;
  layer.attention.qk_norm = !first_generation;
  MlpSpec sparse;
  // GGUF does not say, but all published Qwen 3 scale the scores.
  const bool normalize = !first_generation && naming == Naming::kGguf;
  ASSIGN_OR_RETURN(sparse.experts, ReadExperts(config, &sparse.ffn_dim, normalize));
  if (sparse.experts.count == 0) {
    return absl::InvalidArgumentError("\"num_experts\" is missing");
  }
  sparse.experts.shared_gate = first_generation;
  ModelSpec spec = StartSpec(architecture, numbers);
  ASSIGN_OR_RETURN(const bool use_window, GetBoolOr(config, "use_sliding_window", false));
  ASSIGN_OR_RETURN(const int64_t first_window_layer,
                   GetIntOr(config, "max_window_layers", numbers.layers));
  for (int i = 0; i < numbers.layers; ++i) {
    layer.attention.window = use_window && i >= first_window_layer ? numbers.sliding_window : 0;
    ASSIGN_OR_RETURN(const bool dense, IsDense(config, i));
    layer.mlp = dense ? MlpSpec{.ffn_dim = numbers.ffn_dim} : sparse;
    spec.layers.push_back(layer);
  }
  AddDecoderTensors(StandardNames(naming), spec);
  return spec;
}

}  // namespace

extern const Architecture kQwen2Moe = {
    "qwen2_moe", {"qwen2_moe", "qwen2moe"}, [](const Json& config, Naming naming) {
      return BuildQwenMoe("qwen2_moe", config, naming, /*first_generation=*/true);
    }};

extern const Architecture kQwen3Moe = {
    "qwen3_moe", {"qwen3_moe", "qwen3moe"}, [](const Json& config, Naming naming) {
      return BuildQwenMoe("qwen3_moe", config, naming, /*first_generation=*/false);
    }};

}  // namespace tprun
