#include "engine/arch/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

// Ours and general.architecture (llama.cpp: gguf-py/gguf/constants.py).
constexpr std::pair<absl::string_view, absl::string_view> kNames[] = {
    {"llama", "llama"},           {"mistral", "llama"},   {"mixtral", "llama"},
    {"qwen2", "qwen2"},           {"qwen3", "qwen3"},     {"qwen2_moe", "qwen2moe"},
    {"qwen3_moe", "qwen3moe"},    {"gemma", "gemma"},     {"gemma2", "gemma2"},
    {"gemma3", "gemma3"},         {"phi3", "phi3"},       {"glm", "chatglm"},
    {"chatglm", "chatglm"},       {"glm4", "glm4"},       {"deepseek_v2", "deepseek2"},
    {"deepseek_v3", "deepseek2"}, {"gpt_oss", "gpt-oss"},
};

class Writer {
 public:
  Writer(const ModelSpec& spec, std::string name) : spec_(spec), name_(std::move(name)) {}

  Json Write() {
    metadata_["general.architecture"] = name_;
    metadata_["general.name"] = spec_.name;
    const LayerSpec& layer = spec_.layers[0];
    Put("vocab_size", spec_.vocab);
    Put("context_length", spec_.context_length);
    Put("embedding_length", spec_.dim);
    Put("block_count", spec_.num_layers());
    if (layer.attention.is_latent()) {
      WriteLatent(layer.attention);
    } else {
      WriteHeads(layer.attention);
    }
    WriteWindow();
    WriteRope(layer.attention);
    Put("attention.layer_norm_rms_epsilon", static_cast<double>(layer.norm.eps));
    WriteMlp();
    if (spec_.final_logit_softcap > 0) {
      Put("final_logit_softcapping", static_cast<double>(spec_.final_logit_softcap));
    }
    return std::move(metadata_);
  }

 private:
  void Put(absl::string_view key, Json value) {
    // As a float is what GGUF's readers expect of every fraction.
    if (value.is_number_float()) value = static_cast<float>(value.get<double>());
    metadata_[absl::StrCat(name_, ".", key)] = std::move(value);
  }

  void WriteHeads(const AttentionSpec& attention) {
    Put("attention.head_count", attention.heads);
    Put("attention.head_count_kv", attention.kv_heads);
    Put("attention.key_length", attention.head_dim);
    Put("attention.value_length", attention.values());
    if (attention.logit_softcap > 0) {
      Put("attn_logit_softcapping", static_cast<double>(attention.logit_softcap));
    }
  }

  // One KV head, whose rows are those of the cache; heads' own sizes are under other keys.
  void WriteLatent(const AttentionSpec& attention) {
    const LatentSpec& latent = attention.latent;
    Put("attention.head_count", attention.heads);
    Put("attention.head_count_kv", 1);
    if (latent.query_rank > 0) Put("attention.q_lora_rank", latent.query_rank);
    Put("attention.kv_lora_rank", latent.kv_rank);
    Put("attention.key_length", latent.kv_rank + latent.rope_dim);
    Put("attention.value_length", latent.kv_rank);
    Put("attention.key_length_mla", attention.head_dim);
    Put("attention.value_length_mla", attention.values());
  }

  void WriteWindow() {
    int64_t window = 0;
    for (const LayerSpec& layer : spec_.layers) window = std::max(window, layer.attention.window);
    if (window > 0 && name_ != "llama") Put("attention.sliding_window", window);
  }

  void WriteRope(const AttentionSpec& attention) {
    // The rotation of layers without a window, where layers differ.
    const RopeSpec* rope = &attention.rope;
    for (const LayerSpec& layer : spec_.layers) {
      if (layer.attention.window == 0) rope = &layer.attention.rope;
    }
    Put("rope.dimension_count", rope->dims);
    Put("rope.freq_base", rope->theta);
    if (rope->scaling == RopeScaling::kLongRope) {
      Put("rope.scaling.original_context_length", rope->original_context_length);
      Put("rope.scaling.attn_factor", static_cast<double>(rope->magnitude));
    }
    if (rope->scaling == RopeScaling::kLinear) {
      Put("rope.scaling.type", "linear");
      Put("rope.scaling.factor", rope->factor);
    }
    if (rope->scaling == RopeScaling::kYarn) WriteYarn(attention, *rope);
  }

  void WriteYarn(const AttentionSpec& attention, const RopeSpec& rope) {
    Put("rope.scaling.type", "yarn");
    Put("rope.scaling.factor", rope.factor);
    Put("rope.scaling.original_context_length", rope.original_context_length);
    if (rope.beta_fast != 32) Put("rope.scaling.yarn_beta_fast", rope.beta_fast);
    if (rope.beta_slow != 1) Put("rope.scaling.yarn_beta_slow", rope.beta_slow);
    // DeepSeek's mscale_all_dim, a tenth of it, out of the growth of attention's scale
    // (deepseek.cc: AttentionGrowth).
    const double growth = std::sqrt(attention.scale * std::sqrt(attention.head_dim));
    if (!attention.is_latent() || growth < 1 + 1e-6 || rope.factor <= 1) return;
    const double tenth = (growth - 1) / std::log(rope.factor);
    Put("rope.scaling.yarn_log_multiplier", std::round(tenth * 1e6) / 1e6);
  }

  void WriteMlp() {
    const MlpSpec* dense = nullptr;
    const MlpSpec* sparse = nullptr;
    int leading = 0;  // dense layers
    for (const LayerSpec& layer : spec_.layers) {
      (layer.mlp.experts.count > 0 ? sparse : dense) = &layer.mlp;
      if (sparse == nullptr) ++leading;
    }
    Put("feed_forward_length", dense != nullptr ? dense->ffn_dim : sparse->ffn_dim);
    if (sparse == nullptr) return;
    const ExpertsSpec& experts = sparse->experts;
    Put("expert_count", experts.count);
    Put("expert_used_count", experts.per_token);
    if (name_ != "llama") Put("expert_feed_forward_length", sparse->ffn_dim);
    if (name_ == "deepseek2") {
      WriteDeepSeekExperts(experts, sparse->ffn_dim, leading);
    } else if (experts.shared_ffn_dim > 0) {
      Put("expert_shared_feed_forward_length", experts.shared_ffn_dim);
    }
  }

  void WriteDeepSeekExperts(const ExpertsSpec& experts, int64_t columns, int leading) {
    constexpr int kSoftmax = 1, kSigmoid = 2;
    Put("leading_dense_block_count", leading);
    Put("expert_shared_count", experts.shared_ffn_dim / columns);
    Put("expert_gating_func", experts.score == RouterScore::kSigmoid ? kSigmoid : kSoftmax);
    Put("expert_weights_scale", static_cast<double>(experts.scale));
    Put("expert_weights_norm", experts.normalize);
    if (experts.groups == 1) return;
    Put("expert_group_count", experts.groups);
    Put("expert_group_used_count", experts.groups_per_token);
  }

  const ModelSpec& spec_;
  const std::string name_;
  Json metadata_ = Json::object();
};

}  // namespace

absl::StatusOr<std::string> GgufArchitecture(const ModelSpec& spec) {
  std::string known;
  for (const auto& [ours, gguf] : kNames) {
    if (spec.architecture == ours) return std::string(gguf);
    absl::StrAppend(&known, known.empty() ? "" : ", ", ours);
  }
  return absl::InvalidArgumentError(absl::StrCat("models of architecture ", spec.architecture,
                                                 " cannot be written as GGUF; those of ", known,
                                                 " can"));
}

Json GgufMetadata(const ModelSpec& spec, const std::string& architecture) {
  return Writer(spec, architecture).Write();
}

}  // namespace tprun
