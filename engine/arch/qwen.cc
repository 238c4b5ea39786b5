#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Qwen 1.5 / 2 / 2.5 (biases on q, k, v; arXiv 2407.10671) and Qwen 3 (no biases, RMSNorm over each
// head of q and k; arXiv 2505.09388). Rotary pairs are half-split in both namings.

namespace tprun {
namespace {

absl::StatusOr<ModelSpec> BuildQwen(absl::string_view architecture, const Json& config,
                                    Naming naming, bool qkv_bias, bool qk_norm) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  ASSIGN_OR_RETURN(const bool use_window, GetBoolOr(config, "use_sliding_window", false));
  ASSIGN_OR_RETURN(const int64_t first_window_layer,
                   GetIntOr(config, "max_window_layers", numbers.layers));
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.attention = PlainAttention(numbers);
  layer.attention.qkv_bias = qkv_bias;
  layer.attention.qk_norm = qk_norm;
  layer.mlp = {.activation = Activation::kSilu, .ffn_dim = numbers.ffn_dim};
  ModelSpec spec = StartSpec(architecture, numbers);
  for (int i = 0; i < numbers.layers; ++i) {
    layer.attention.window = use_window && i >= first_window_layer ? numbers.sliding_window : 0;
    spec.layers.push_back(layer);
  }
  AddDecoderTensors(StandardNames(naming), spec);
  return spec;
}

}  // namespace

extern const Architecture kQwen2 = {"qwen2", {"qwen2"}, [](const Json& config, Naming naming) {
                                      return BuildQwen("qwen2", config, naming, /*qkv_bias=*/true,
                                                       /*qk_norm=*/false);
                                    }};

extern const Architecture kQwen3 = {"qwen3", {"qwen3"}, [](const Json& config, Naming naming) {
                                      return BuildQwen("qwen3", config, naming, /*qkv_bias=*/false,
                                                       /*qk_norm=*/true);
                                    }};

}  // namespace tprun
