#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// DeepSeek-V2 (arXiv 2405.04434) and V3 / R1 (arXiv 2412.19437): multi-head latent attention, a few
// dense layers first, then routed and shared experts. V3 adds a bias to the choice of experts. Its
// extra layer for predicting the second next token is not loaded.

namespace tprun {
namespace {

constexpr int64_t kMostRank = 1 << 20;
constexpr int64_t kMostColumns = 1 << 22;

// GGUF files from 2025-04 on keep the latent vector in the cache, and the key and value projections
// apart; their head sizes are then under other keys.
bool HasSplitProjections(const Json& config) {
  return FindMember(config, "key_length_mla") != nullptr;
}

// With a longer context than trained for, the scale of attention grows by the square of this.
absl::StatusOr<double> AttentionGrowth(const Json& config, const RopeSpec& rope) {
  if (rope.scaling != RopeScaling::kYarn) return 1;
  for (absl::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* scaling = FindMember(config, key);
    if (scaling == nullptr) continue;
    ASSIGN_OR_RETURN(const double all_dim, GetDoubleOr(*scaling, "mscale_all_dim", 0));
    if (all_dim != 0) return YarnScale(rope.factor, all_dim);
    // GGUF: a tenth of mscale_all_dim.
    ASSIGN_OR_RETURN(const double tenth, GetDoubleOr(*scaling, "yarn_log_multiplier", 0));
    if (tenth != 0) return YarnScale(rope.factor, 10 * tenth);
  }
  return 1;
}

absl::StatusOr<AttentionSpec> ReadAttention(const Json& config, const ModelConfig& numbers,
                                            Naming naming) {
  AttentionSpec attention = PlainAttention(numbers);
  attention.kv_heads = attention.heads;
  LatentSpec& latent = attention.latent;
  ASSIGN_OR_RETURN(latent.query_rank, GetCountOr(config, "q_lora_rank", kMostRank, 0));
  ASSIGN_OR_RETURN(latent.kv_rank, GetCount(config, "kv_lora_rank", kMostRank));
  const bool gguf = naming == Naming::kGguf;
  ASSIGN_OR_RETURN(latent.rope_dim,
                   GetCount(config, gguf ? "rope_dimension_count" : "qk_rope_head_dim", 1 << 16));
  if (gguf) {
    const bool split = HasSplitProjections(config);
    ASSIGN_OR_RETURN(attention.head_dim,
                     GetCount(config, split ? "key_length_mla" : "head_dim", 1 << 16));
    ASSIGN_OR_RETURN(attention.value_dim,
                     GetCount(config, split ? "value_length_mla" : "v_head_dim", 1 << 16));
  } else {
    ASSIGN_OR_RETURN(const int64_t plain, GetCount(config, "qk_nope_head_dim", 1 << 16));
    attention.head_dim = static_cast<int>(plain) + latent.rope_dim;
    ASSIGN_OR_RETURN(attention.value_dim, GetCount(config, "v_head_dim", 1 << 16));
  }
  if (attention.head_dim <= latent.rope_dim) {
    return absl::InvalidArgumentError("the keys of latent attention have no part without rotation");
  }
  const int64_t widest =
      int64_t{attention.heads} * std::max(attention.head_dim, attention.value_dim);
  if (widest > kMostColumns) {
    return absl::InvalidArgumentError(
        absl::StrCat("heads times their width: wanted at most ", kMostColumns, ", found ", widest));
  }
  ASSIGN_OR_RETURN(const double growth, AttentionGrowth(config, numbers.rope));
  attention.scale =
      static_cast<float>(growth * growth / std::sqrt(static_cast<double>(attention.head_dim)));
  attention.rope.layout = RopeLayout::kInterleaved;
  attention.rope.dims = latent.rope_dim;
  return attention;
}

// Sigmoid scores with a bias for the choice. Hugging Face's own configs of V3 do not say so.
absl::StatusOr<bool> IsThirdGeneration(const Json& config) {
  ASSIGN_OR_RETURN(const std::string type, GetStringOr(config, "model_type", ""));
  ASSIGN_OR_RETURN(const std::string scoring, GetStringOr(config, "scoring_func", ""));
  ASSIGN_OR_RETURN(const int64_t gating, GetIntOr(config, "expert_gating_func", 0));
  constexpr int kGgufSigmoid = 2;
  if (scoring.empty() && (type == "deepseek_v3" || type == "kimi_k2")) return true;
  return scoring == "sigmoid" || gating == kGgufSigmoid;
}

// Hugging Face never scales V2's scores to one, whatever norm_topk_prob says; all published say no.
absl::Status ReadSecondGenerationChoice(const Json& config, Naming naming, ExpertsSpec* experts) {
  if (experts->normalize) {
    return absl::InvalidArgumentError(
        "\"norm_topk_prob\": true is not supported with softmax scores");
  }
  if (naming == Naming::kGguf) return absl::OkStatus();  // has groups only where they count
  ASSIGN_OR_RETURN(const std::string method, GetStringOr(config, "topk_method", "greedy"));
  if (method == "greedy") {
    experts->groups = experts->groups_per_token = 1;
  } else if (method != "group_limited_greedy") {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"topk_method\": supported are greedy and group_limited_greedy, found ", method));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> BuildDeepSeek(const Json& config, Naming naming) {
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  ASSIGN_OR_RETURN(const bool bias, GetBoolOr(config, "attention_bias", false));
  if (bias) return absl::InvalidArgumentError("\"attention_bias\": true is not supported");
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  ASSIGN_OR_RETURN(layer.attention, ReadAttention(config, numbers, naming));
  MlpSpec sparse;
  ASSIGN_OR_RETURN(const bool third, IsThirdGeneration(config));
  ASSIGN_OR_RETURN(sparse.experts, ReadExperts(config, &sparse.ffn_dim, third));
  if (third) {
    sparse.experts.score = RouterScore::kSigmoid;
    sparse.experts.choice_bias = true;
  } else {
    RETURN_IF_ERROR(ReadSecondGenerationChoice(config, naming, &sparse.experts));
  }
  ASSIGN_OR_RETURN(const int64_t dense_layers,
                   GetIntOr(config, "first_k_dense_replace", numbers.layers));
  ModelSpec spec = StartSpec(sparse.experts.choice_bias ? "deepseek_v3" : "deepseek_v2", numbers);
  for (int i = 0; i < numbers.layers; ++i) {
    const bool dense = i < dense_layers || sparse.experts.count == 0;
    layer.mlp = dense ? MlpSpec{.ffn_dim = numbers.ffn_dim} : sparse;
    spec.layers.push_back(layer);
  }
  DecoderNames names = StandardNames(naming);
  if (naming == Naming::kHuggingFace) {
    const std::string shared = "model.layers.{i}.mlp.shared_experts.";
    names.shared_gate = shared + "gate_proj.weight";
    names.shared_up = shared + "up_proj.weight";
    names.shared_down = shared + "down_proj.weight";
  } else if (HasSplitProjections(config)) {
    names.key_up = "blk.{i}.attn_k_b.weight";
    names.value_up = "blk.{i}.attn_v_b.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

}  // namespace

extern const Architecture kDeepSeek = {
    "deepseek", {"deepseek_v2", "deepseek_v3", "deepseek2", "kimi_k2"}, BuildDeepSeek};

}  // namespace tprun
