#include "engine/arch/model_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/arch/rope_config.h"

namespace tprun {
namespace {

// The first of `keys` that the config has and that is not 0.
absl::StatusOr<int64_t> GetFirstCountOr(const Json& config,
                                        std::initializer_list<absl::string_view> keys,
                                        int64_t limit, int64_t otherwise) {
  for (absl::string_view key : keys) {
    ASSIGN_OR_RETURN(const int64_t value, GetIntOr(config, key, 0));
    if (value != 0) return GetCount(config, key, limit);
  }
  return otherwise;
}

}  // namespace

// The limits given here are far above any model's and keep the bytes of all weights
// within int64.
absl::StatusOr<int64_t> GetCount(const Json& config, absl::string_view key, int64_t limit) {
  ASSIGN_OR_RETURN(const int64_t value, GetInt(config, key));
  if (value < 1 || value > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\": wanted 1 to ", limit, ", found ", value));
  }
  return value;
}

absl::StatusOr<int64_t> GetCountOr(const Json& config, absl::string_view key, int64_t limit,
                                   int64_t otherwise) {
  if (FindMember(config, key) == nullptr) return otherwise;
  return GetCount(config, key, limit);
}

absl::StatusOr<ExpertsSpec> ReadExperts(const Json& config, int64_t* expert_ffn_dim,
                                        bool normalize_by_default) {
  constexpr int64_t kMostExperts = 1 << 14;
  ExpertsSpec experts;
  ASSIGN_OR_RETURN(experts.count,
                   GetFirstCountOr(config, {"num_local_experts", "num_experts", "n_routed_experts"},
                                   kMostExperts, 0));
  if (experts.count == 0) return experts;
  ASSIGN_OR_RETURN(
      experts.per_token,
      GetFirstCountOr(config, {"num_experts_per_tok", "experts_per_token"}, experts.count, 1));
  ASSIGN_OR_RETURN(
      const int64_t expert_ffn,
      GetFirstCountOr(config, {"moe_intermediate_size", "intermediate_size"}, 1 << 22, 0));
  if (expert_ffn == 0) {
    return absl::InvalidArgumentError("\"moe_intermediate_size\" is missing");
  }
  *expert_ffn_dim = expert_ffn;
  ASSIGN_OR_RETURN(experts.shared_ffn_dim,
                   GetFirstCountOr(config, {"shared_expert_intermediate_size"}, 1 << 24, 0));
  ASSIGN_OR_RETURN(const int64_t shared, GetIntOr(config, "n_shared_experts", 0));
  if (shared < 0 || shared > kMostExperts) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"n_shared_experts\": wanted 0 to ", kMostExperts, ", found ", shared));
  }
  if (experts.shared_ffn_dim == 0) experts.shared_ffn_dim = shared * expert_ffn;
  constexpr int64_t kMostColumns = 1 << 24;
  if (experts.count * expert_ffn > kMostColumns || experts.shared_ffn_dim > kMostColumns) {
    return absl::InvalidArgumentError(absl::StrCat(
        "experts: wanted at most ", kMostColumns, " columns in all, found ", experts.count, " of ",
        expert_ffn, " and ", experts.shared_ffn_dim, " shared"));
  }
  ASSIGN_OR_RETURN(experts.normalize, GetBoolOr(config, "norm_topk_prob", normalize_by_default));
  ASSIGN_OR_RETURN(const double scale, GetDoubleOr(config, "routed_scaling_factor", 1));
  experts.scale = static_cast<float>(scale);
  ASSIGN_OR_RETURN(experts.groups, GetFirstCountOr(config, {"n_group"}, experts.count, 1));
  ASSIGN_OR_RETURN(experts.groups_per_token,
                   GetFirstCountOr(config, {"topk_group"}, experts.groups, experts.groups));
  const int64_t group = experts.count / experts.groups;
  if (experts.count % experts.groups != 0 || experts.per_token > group * experts.groups_per_token) {
    return absl::InvalidArgumentError(absl::StrCat(
        experts.count, " experts in ", experts.groups, " groups (\"n_group\"), of which ",
        experts.groups_per_token, " (\"topk_group\") are for ", experts.per_token,
        " experts of a token: wanted equal groups with enough experts"));
  }
  return experts;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const Json& config, bool tied_by_default) {
  ModelConfig result;
  ASSIGN_OR_RETURN(result.name, GetStringOr(config, "_name", ""));
  ASSIGN_OR_RETURN(result.dim, GetCount(config, "hidden_size", 1 << 20));
  ASSIGN_OR_RETURN(result.layers, GetCount(config, "num_hidden_layers", 10000));
  ASSIGN_OR_RETURN(result.ffn_dim, GetCount(config, "intermediate_size", 1 << 22));
  ASSIGN_OR_RETURN(result.vocab, GetCount(config, "vocab_size", 1 << 26));
  ASSIGN_OR_RETURN(result.context_length,
                   GetCountOr(config, "max_position_embeddings", 1 << 30, 2048));
  ASSIGN_OR_RETURN(result.heads, GetCount(config, "num_attention_heads", 1 << 16));
  ASSIGN_OR_RETURN(result.kv_heads,
                   GetCountOr(config, "num_key_value_heads", result.heads, result.heads));
  ASSIGN_OR_RETURN(result.head_dim,
                   GetCountOr(config, "head_dim", 1 << 16, result.dim / result.heads));
  ASSIGN_OR_RETURN(const double eps, GetDoubleOr(config, "rms_norm_eps", 1e-6));
  result.norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(result.tied, GetBoolOr(config, "tie_word_embeddings", tied_by_default));
  // Configs written by transformers 5 say 0 for none.
  ASSIGN_OR_RETURN(result.sliding_window, GetFirstCountOr(config, {"sliding_window"}, 1 << 30, 0));
  if (int64_t{result.heads} * result.head_dim > 1 << 22) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"num_attention_heads\" times \"head_dim\": wanted at most ", 1 << 22,
                     ", found ", int64_t{result.heads} * result.head_dim));
  }
  if (result.heads % result.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"num_attention_heads\" (", result.heads,
                     ") is not a multiple of \"num_key_value_heads\" (", result.kv_heads, ")"));
  }
  if (FindMember(config, "head_dim") == nullptr && result.dim % result.heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"hidden_size\" (", result.dim,
                                                   ") is not a multiple of "
                                                   "\"num_attention_heads\" (",
                                                   result.heads, ")"));
  }
  ASSIGN_OR_RETURN(result.rope, ReadRope(config, result.context_length, result.head_dim));
  return result;
}

absl::Status CheckActivation(const Json& config, std::initializer_list<absl::string_view> names) {
  ASSIGN_OR_RETURN(std::string name, GetStringOr(config, "hidden_activation", ""));
  if (name.empty()) {
    ASSIGN_OR_RETURN(name, GetStringOr(config, "hidden_act", ""));
  }
  for (absl::string_view supported : names) {
    if (name.empty() || name == supported) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "activation \"", name, "\" is not supported here; supported: ", absl::StrJoin(names, ", ")));
}

ModelSpec StartSpec(absl::string_view architecture, const ModelConfig& config) {
  ModelSpec spec;
  spec.name = config.name;
  spec.architecture = std::string(architecture);
  spec.dim = config.dim;
  spec.vocab = config.vocab;
  spec.context_length = config.context_length;
  spec.tied_head = config.tied;
  spec.final_norm.eps = config.norm_eps;
  spec.blocks.push_back({BlockKind::kEmbed, 0});
  for (int layer = 0; layer < config.layers; ++layer) {
    spec.blocks.push_back({BlockKind::kAttention, layer});
    spec.blocks.push_back({BlockKind::kMlp, layer});
  }
  spec.blocks.push_back({BlockKind::kHead, 0});
  return spec;
}

AttentionSpec PlainAttention(const ModelConfig& config) {
  AttentionSpec attention;
  attention.heads = config.heads;
  attention.kv_heads = config.kv_heads;
  attention.head_dim = config.head_dim;
  attention.rope = config.rope;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  return attention;
}

}  // namespace tprun
