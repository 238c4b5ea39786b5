#pragma once

#include <initializer_list>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The numbers that nearly every decoder's config has, read under Hugging Face's names and checked
// (positive, within sane limits, query heads a multiple of KV heads).
struct ModelConfig {
  std::string name;  // "" if the config does not tell
  int64_t dim = 0;
  int layers = 0;
  int64_t ffn_dim = 0;
  int64_t vocab = 0;
  int64_t context_length = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float norm_eps = 0;
  bool tied = false;
  int64_t sliding_window = 0;  // 0: none
  RopeSpec rope;               // dims = head_dim times partial_rotary_factor
};

// `tied_by_default`: what an absent "tie_word_embeddings" means in this family.
absl::StatusOr<ModelConfig> ReadModelConfig(const Json& config, bool tied_by_default = false);

// The mixture of experts that the config asks for, under the names of Mixtral, Qwen, DeepSeek and
// gpt-oss and of GGUF: experts, choice, shared experts. count == 0 if it asks for none.
// *expert_ffn_dim: columns of one expert. normalize_by_default: what an absent "norm_topk_prob"
// means in this family.
absl::StatusOr<ExpertsSpec> ReadExperts(const Json& config, int64_t* expert_ffn_dim,
                                        bool normalize_by_default);

// arXiv 2309.00071's growth of attention with the context's factor, to the power of mscale's sense
// in DeepSeek's configs: 0.1 mscale ln(factor) + 1.
double YarnScale(double factor, double mscale);

// An integer in [1, limit]; with `otherwise`, for a member that is absent.
absl::StatusOr<int64_t> GetCount(const Json& config, absl::string_view key, int64_t limit);
absl::StatusOr<int64_t> GetCountOr(const Json& config, absl::string_view key, int64_t limit,
                                   int64_t otherwise);

// The config asks for one of `names` as its activation, or does not say. InvalidArgument names what
// is supported.
absl::Status CheckActivation(const Json& config, std::initializer_list<absl::string_view> names);

// A spec with the numbers of `config` and its chain of blocks; layers and tensors still empty.
ModelSpec StartSpec(absl::string_view architecture, const ModelConfig& config);

// Attention as `config` has it: full, scaled by 1/sqrt(head_dim).
AttentionSpec PlainAttention(const ModelConfig& config);

}  // namespace tprun
