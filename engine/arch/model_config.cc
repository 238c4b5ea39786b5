#include "engine/arch/model_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

absl::Status CheckPositive(absl::string_view what, double value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", what, "\": wanted a positive number, found ", value));
}

// The attention factor of arXiv 2309.00071, section 3.4, with DeepSeek's two exponents as in
// Hugging Face's _compute_yarn_parameters. GGUF files of DeepSeek fold them into the attention's
// scale.
absl::StatusOr<double> YarnMagnitude(const Json& scaling, double factor) {
  ASSIGN_OR_RETURN(const double given, GetDoubleOr(scaling, "attention_factor", 0));
  if (given != 0) return given;
  if (FindMember(scaling, "yarn_log_multiplier") != nullptr) return 1;
  ASSIGN_OR_RETURN(const double mscale, GetDoubleOr(scaling, "mscale", 0));
  ASSIGN_OR_RETURN(const double all_dim, GetDoubleOr(scaling, "mscale_all_dim", 0));
  if (mscale != 0 && all_dim != 0) return YarnScale(factor, mscale) / YarnScale(factor, all_dim);
  return YarnScale(factor, 1);
}

absl::Status ReadYarn(const Json& scaling, int64_t context_length, RopeSpec& rope) {
  rope.scaling = RopeScaling::kYarn;
  ASSIGN_OR_RETURN(rope.factor, GetDouble(scaling, "factor"));
  RETURN_IF_ERROR(CheckPositive("factor", rope.factor));
  ASSIGN_OR_RETURN(
      rope.original_context_length,
      GetCountOr(scaling, "original_max_position_embeddings", 1 << 30, context_length));
  ASSIGN_OR_RETURN(rope.beta_fast, GetDoubleOr(scaling, "beta_fast", 32));
  ASSIGN_OR_RETURN(rope.beta_slow, GetDoubleOr(scaling, "beta_slow", 1));
  RETURN_IF_ERROR(CheckPositive("beta_fast", rope.beta_fast));
  RETURN_IF_ERROR(CheckPositive("beta_slow", rope.beta_slow));
  ASSIGN_OR_RETURN(rope.truncate, GetBoolOr(scaling, "truncate", true));
  ASSIGN_OR_RETURN(const double magnitude, YarnMagnitude(scaling, rope.factor));
  RETURN_IF_ERROR(CheckPositive("attention_factor", magnitude));
  rope.magnitude = static_cast<float>(magnitude);
  return absl::OkStatus();
}

// Hugging Face keeps scaling in "rope_scaling", from version 5 on in "rope_parameters" with
// rope_theta inside.
absl::Status ReadRopeScaling(const Json& scaling, int64_t context_length, RopeSpec& rope) {
  ASSIGN_OR_RETURN(std::string type, GetStringOr(scaling, "rope_type", ""));
  if (type.empty()) {
    ASSIGN_OR_RETURN(type, GetStringOr(scaling, "type", "default"));
  }
  if (type == "default" || type == "none") return absl::OkStatus();
  if (type == "yarn") return ReadYarn(scaling, context_length, rope);
  if (type == "longrope" || type == "su") {
    rope.scaling = RopeScaling::kLongRope;
    ASSIGN_OR_RETURN(rope.factor, GetDoubleOr(scaling, "factor", 1));
    return CheckPositive("factor", rope.factor);
  }
  if (type != "linear" && type != "llama3") {
    return absl::InvalidArgumentError(absl::StrCat(
        "rope scaling \"", type,
        "\" is not supported; supported: default, linear, llama3, yarn, and to plan longrope"));
  }
  rope.scaling = type == "linear" ? RopeScaling::kLinear : RopeScaling::kLlama3;
  ASSIGN_OR_RETURN(rope.factor, GetDouble(scaling, "factor"));
  RETURN_IF_ERROR(CheckPositive("factor", rope.factor));
  if (rope.scaling == RopeScaling::kLinear) return absl::OkStatus();
  ASSIGN_OR_RETURN(rope.low_freq_factor, GetDouble(scaling, "low_freq_factor"));
  ASSIGN_OR_RETURN(rope.high_freq_factor, GetDouble(scaling, "high_freq_factor"));
  if (!(rope.high_freq_factor > rope.low_freq_factor) || !(rope.low_freq_factor > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope scaling wants 0 < low_freq_factor < high_freq_factor, found ",
                     rope.low_freq_factor, " and ", rope.high_freq_factor));
  }
  ASSIGN_OR_RETURN(rope.original_context_length,
                   GetCount(scaling, "original_max_position_embeddings", 1 << 30));
  return absl::OkStatus();
}

absl::Status ReadRope(const Json& config, ModelConfig& result) {
  RopeSpec& rope = result.rope;
  ASSIGN_OR_RETURN(rope.theta, GetDoubleOr(config, "rope_theta", 10000));
  for (absl::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* scaling = FindMember(config, key);
    if (scaling == nullptr) continue;
    if (!scaling->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted an object"));
    }
    ASSIGN_OR_RETURN(rope.theta, GetDoubleOr(*scaling, "rope_theta", rope.theta));
    RETURN_IF_ERROR(Annotate(ReadRopeScaling(*scaling, result.context_length, rope), key));
  }
  RETURN_IF_ERROR(CheckPositive("rope_theta", rope.theta));
  double partial = 1;
  for (const Json* from : {&config, FindMember(config, "rope_parameters")}) {
    if (from == nullptr) continue;
    ASSIGN_OR_RETURN(partial, GetDoubleOr(*from, "partial_rotary_factor", partial));
  }
  if (!(partial > 0) || partial > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"partial_rotary_factor\": wanted a number in (0, 1], found ", partial));
  }
  ASSIGN_OR_RETURN(const int64_t dims, GetCountOr(config, "rope_dimension_count", result.head_dim,
                                                  static_cast<int64_t>(result.head_dim * partial)));
  if (dims % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rotary embeddings need an even number of elements per head, found ", dims));
  }
  rope.dims = static_cast<int>(dims);
  return absl::OkStatus();
}

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

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

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
  RETURN_IF_ERROR(ReadRope(config, result));
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
