#include <algorithm>
#include <charconv>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/messages.h"

namespace tprun {
namespace {

enum class Kind { kInteger, kNumber, kBool };

struct Translation {
  absl::string_view gguf;  // after "{a}."
  absl::string_view config;
  Kind kind;
};

// Several rows may read one key: models disagree on what config.json calls it.
constexpr Translation kTranslations[] = {
    {"block_count", "num_hidden_layers", Kind::kInteger},
    {"embedding_length", "hidden_size", Kind::kInteger},
    {"feed_forward_length", "intermediate_size", Kind::kInteger},
    {"context_length", "max_position_embeddings", Kind::kInteger},
    {"attention.head_count", "num_attention_heads", Kind::kInteger},
    {"attention.head_count_kv", "num_key_value_heads", Kind::kInteger},
    {"attention.key_length", "head_dim", Kind::kInteger},
    {"attention.value_length", "v_head_dim", Kind::kInteger},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", Kind::kNumber},
    {"attention.layer_norm_epsilon", "layer_norm_eps", Kind::kNumber},
    {"attention.key_length_mla", "key_length_mla", Kind::kInteger},
    {"attention.value_length_mla", "value_length_mla", Kind::kInteger},
    {"attention.sliding_window", "sliding_window", Kind::kInteger},
    {"attention.sliding_window_pattern", "sliding_window_pattern", Kind::kInteger},
    {"attention.q_lora_rank", "q_lora_rank", Kind::kInteger},
    {"attention.kv_lora_rank", "kv_lora_rank", Kind::kInteger},
    {"attention.scale", "attention_multiplier", Kind::kNumber},
    {"rope.freq_base", "rope_theta", Kind::kNumber},
    {"rope.dimension_count", "rope_dimension_count", Kind::kInteger},
    {"expert_count", "num_local_experts", Kind::kInteger},
    {"expert_used_count", "num_experts_per_tok", Kind::kInteger},
    {"expert_shared_count", "n_shared_experts", Kind::kInteger},
    {"expert_feed_forward_length", "moe_intermediate_size", Kind::kInteger},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size", Kind::kInteger},
    {"leading_dense_block_count", "first_k_dense_replace", Kind::kInteger},
    {"expert_group_count", "n_group", Kind::kInteger},
    {"expert_group_used_count", "topk_group", Kind::kInteger},
    {"expert_gating_func", "expert_gating_func", Kind::kInteger},
    {"expert_weights_scale", "routed_scaling_factor", Kind::kNumber},
    {"expert_weights_norm", "norm_topk_prob", Kind::kBool},
    {"logit_scale", "logit_scale", Kind::kNumber},
    {"attn_logit_softcapping", "attn_logit_softcapping", Kind::kNumber},
    {"final_logit_softcapping", "final_logit_softcapping", Kind::kNumber},
    {"embedding_scale", "embedding_multiplier", Kind::kNumber},
    {"residual_scale", "residual_multiplier", Kind::kNumber},
};

bool IsA(const Json& value, Kind kind) {
  switch (kind) {
    case Kind::kInteger:
      return value.is_number_integer() || value.is_boolean();  // a pattern per layer is of bools
    case Kind::kNumber:
      return value.is_number();
    case Kind::kBool:
      return value.is_boolean();
  }
  return false;
}

bool IsAOrArrayOf(const Json& value, Kind kind) {
  if (!value.is_array()) return IsA(value, kind);
  for (const Json& element : value) {
    if (!IsA(element, kind)) return false;
  }
  return true;
}

// GGUF stores 1e-5 as a float, which as a double reads 9.99999974737875e-06: gives the shortest
// decimal that is the same float, as config.json has it.
Json Shortest(const Json& value) {
  if (value.is_array()) {
    Json result = Json::array();
    for (const Json& element : value) result.push_back(Shortest(element));
    return result;
  }
  if (!value.is_number_float()) return value;
  const double number = value.get<double>();
  const float narrow = static_cast<float>(number);
  if (static_cast<double>(narrow) != number) return value;  // a double, or no number at all
  char text[32];
  const std::to_chars_result end = std::to_chars(text, text + sizeof(text), narrow);
  double shortest = 0;
  if (!absl::SimpleAtod(absl::string_view(text, end.ptr - text), &shortest)) return value;
  return shortest;
}

class ConfigMaker {
 public:
  explicit ConfigMaker(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::StatusOr<Json> Make() {
    ASSIGN_OR_RETURN(architecture_, Architecture());
    config_["_gguf"] = true;
    config_["model_type"] = architecture_;
    SetName();
    for (const Translation& row : kTranslations) RETURN_IF_ERROR(Translate(row));
    if (!config_.contains("num_key_value_heads") && config_.contains("num_attention_heads")) {
      config_["num_key_value_heads"] = config_["num_attention_heads"];
    }
    RETURN_IF_ERROR(SetRopeScaling());
    RETURN_IF_ERROR(SetVocabulary());
    RETURN_IF_ERROR(SetTokens());
    SetFromTensors();
    return std::move(config_);
  }

 private:
  absl::Status Error(absl::string_view key, absl::string_view wanted) const {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint_.path(), ": metadata key ",
                                                   Quoted(key), ": wanted ", wanted, ", found ",
                                                   MemberText(checkpoint_.metadata(), key)));
  }

  absl::StatusOr<std::string> Architecture() const {
    const absl::StatusOr<std::string> name =
        GetString(checkpoint_.metadata(), "general.architecture");
    constexpr absl::string_view kWanted = "a name such as \"llama\"";
    if (!name.ok() || name->empty()) return Error("general.architecture", kWanted);
    for (const char c : *name) {
      if (c <= ' ' || c > '~') return Error("general.architecture", kWanted);
    }
    return *name;
  }

  const Json* Metadata(absl::string_view suffix) const {
    return FindMember(checkpoint_.metadata(), absl::StrCat(architecture_, ".", suffix));
  }

  // A name that is not UTF-8 would make the config impossible to write down: left out.
  void SetName() {
    const absl::StatusOr<std::string> name = GetString(checkpoint_.metadata(), "general.name");
    if (!name.ok()) return;
    const std::string text = Json(*name).dump(-1, ' ', false, Json::error_handler_t::ignore);
    if (const absl::StatusOr<Json> clean = ParseJson(text); clean.ok()) config_["_name"] = *clean;
  }

  absl::Status Translate(const Translation& row) {
    const Json* value = Metadata(row.gguf);
    if (value == nullptr) return absl::OkStatus();
    if (!IsAOrArrayOf(*value, row.kind)) {
      const absl::string_view wanted = row.kind == Kind::kInteger  ? "an integer"
                                       : row.kind == Kind::kNumber ? "a number"
                                                                   : "true or false";
      return Error(absl::StrCat(architecture_, ".", row.gguf), wanted);
    }
    config_[std::string(row.config)] = Shortest(*value);
    return absl::OkStatus();
  }

  absl::Status SetRopeScaling() {
    const Json& metadata = checkpoint_.metadata();
    const std::string prefix = absl::StrCat(architecture_, ".rope.");
    std::string type;
    if (const Json* value = Metadata("rope.scaling.type")) {
      if (!value->is_string()) return Error(absl::StrCat(prefix, "scaling.type"), "a string");
      ASSIGN_OR_RETURN(type, GetString(metadata, absl::StrCat(prefix, "scaling.type")));
    }
    std::string factor_key = absl::StrCat(prefix, "scaling.factor");
    if (FindMember(metadata, factor_key) == nullptr) {
      factor_key = absl::StrCat(prefix, "scale_linear");  // files before mid-2023
    }
    const absl::StatusOr<double> factor = GetDoubleOr(metadata, factor_key, 0);
    if (!factor.ok()) return Error(factor_key, "a number");
    if (type.empty() && *factor != 0 && *factor != 1) type = "linear";
    // Files of Phi-3 do not name their scaling.
    if (type.empty() && checkpoint_.Find("rope_factors_long.weight") != nullptr) type = "longrope";
    if (type.empty() || type == "none") return absl::OkStatus();
    constexpr absl::string_view kKnown[] = {"linear", "yarn", "longrope", "llama3", "dynamic"};
    if (std::find(std::begin(kKnown), std::end(kKnown), type) == std::end(kKnown)) {
      return Error(absl::StrCat(prefix, "scaling.type"), "none, linear, yarn or longrope");
    }
    Json scaling = {{"rope_type", type}};
    if (*factor != 0) scaling["factor"] = Shortest(Json(*factor));
    RETURN_IF_ERROR(
        CopyScaling("original_context_length", "original_max_position_embeddings", scaling));
    RETURN_IF_ERROR(CopyScaling("attn_factor", "attention_factor", scaling));
    RETURN_IF_ERROR(CopyScaling("yarn_log_multiplier", "yarn_log_multiplier", scaling));
    RETURN_IF_ERROR(CopyScaling("yarn_beta_fast", "beta_fast", scaling));
    RETURN_IF_ERROR(CopyScaling("yarn_beta_slow", "beta_slow", scaling));
    config_["rope_scaling"] = std::move(scaling);
    return absl::OkStatus();
  }

  absl::Status CopyScaling(absl::string_view gguf, absl::string_view name, Json& scaling) const {
    const std::string suffix = absl::StrCat("rope.scaling.", gguf);
    const Json* value = Metadata(suffix);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_number()) return Error(absl::StrCat(architecture_, ".", suffix), "a number");
    scaling[std::string(name)] = Shortest(*value);
    return absl::OkStatus();
  }

  // The rows of the embedding come before the list of tokens: models pad the one, not the other.
  absl::Status SetVocabulary() {
    if (const Json* size = Metadata("vocab_size")) {
      if (!size->is_number_integer()) {
        return Error(absl::StrCat(architecture_, ".vocab_size"), "an integer");
      }
      config_["vocab_size"] = *size;
      return absl::OkStatus();
    }
    const CheckpointTensor* embedding = checkpoint_.Find("token_embd.weight");
    const Json* tokens = FindMember(checkpoint_.metadata(), "tokenizer.ggml.tokens");
    if (embedding != nullptr && embedding->shape.size() == 2) {
      config_["vocab_size"] = embedding->shape[0];
    } else if (tokens != nullptr && tokens->is_array()) {
      config_["vocab_size"] = static_cast<int64_t>(tokens->size());
    }
    return absl::OkStatus();
  }

  absl::Status SetTokens() {
    constexpr std::pair<absl::string_view, absl::string_view> kIds[] = {
        {"tokenizer.ggml.bos_token_id", "bos_token_id"},
        {"tokenizer.ggml.eos_token_id", "eos_token_id"},
        {"tokenizer.ggml.padding_token_id", "pad_token_id"},
    };
    for (const auto& [gguf, name] : kIds) {
      const Json* id = FindMember(checkpoint_.metadata(), gguf);
      if (id == nullptr) continue;
      if (!id->is_number_integer()) return Error(gguf, "an integer");
      config_[std::string(name)] = *id;
    }
    return absl::OkStatus();
  }

  // What config.json says and GGUF leaves to the presence of a tensor.
  void SetFromTensors() {
    if (checkpoint_.tensors().empty()) return;
    config_["tie_word_embeddings"] = checkpoint_.Find("output.weight") == nullptr;
    config_["attention_bias"] = checkpoint_.Find("blk.0.attn_q.bias") != nullptr ||
                                checkpoint_.Find("blk.0.attn_qkv.bias") != nullptr;
    config_["mlp_bias"] = checkpoint_.Find("blk.0.ffn_down.bias") != nullptr;
  }

  const Checkpoint& checkpoint_;
  std::string architecture_;
  Json config_ = Json::object();
};

}  // namespace

absl::StatusOr<Json> GgufConfig(const Checkpoint& checkpoint) {
  return ConfigMaker(checkpoint).Make();
}

}  // namespace tprun
