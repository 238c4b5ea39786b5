#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "comm/communicator.h"
#include "engine/kernels/kernels.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The blocks of a model as one rank runs them: pointers to its shards, and the steps over kernels
// and its group. Nothing is owned; all pointers are on the rank's device and outlive the block. A
// rank with an empty share adds zeros to the group's sum.

// Where a block works; chunk is the most tokens of a step. See RegionUse for the shapes.
struct Workspace {
  float* residual = nullptr;
  float* normed = nullptr;
  float* block_output = nullptr;
  float* qkv = nullptr;
  float* attention = nullptr;
  float* gate = nullptr;
  float* up = nullptr;
  float* logits_shard = nullptr;
  float* logits = nullptr;
  int32_t* token_ids = nullptr;
};

// What every step needs. `group` is the communicator of the block's ranks, nullptr for a single
// one.
struct StepContext {
  Kernels& kernels;
  Communicator* group;
  const Workspace& workspace;
  int64_t dim;
};

struct EmbeddingBlock {
  WeightMatrix table;  // the rank's rows of the vocabulary
  int64_t first_row = 0;
  float scale = 1;
};

struct AttentionBlock {
  NormSpec norm;
  const float* norm_weight = nullptr;       // [dim]
  const float* post_norm_weight = nullptr;  // [dim] or none
  WeightMatrix query, key, value, out;
  const float* query_bias = nullptr;  // or none
  const float* key_bias = nullptr;
  const float* value_bias = nullptr;
  const float* out_bias = nullptr;
  const float* query_norm = nullptr;  // [head_dim] or none
  const float* key_norm = nullptr;
  RopeSpec rope;
  const float* inverse_frequencies = nullptr;
  int head_dim = 0;
  int kv_heads = 0;  // of this rank
  AttentionShape shape;
  std::vector<KvCacheView> caches;  // per sequence
};

struct MlpBlock {
  NormSpec norm;
  const float* norm_weight = nullptr;
  const float* post_norm_weight = nullptr;  // or none
  Activation activation = Activation::kSilu;
  WeightMatrix gate, up, down;
};

struct HeadBlock {
  NormSpec norm;
  const float* norm_weight = nullptr;
  WeightMatrix weight;              // the rank's rows of the vocabulary
  std::vector<int64_t> row_counts;  // of each rank of the group
  float logit_softcap = 0;
};

// residual = embedding of workspace.token_ids[0, tokens), the same on all ranks of the group.
absl::Status RunEmbedding(const EmbeddingBlock& block, int64_t tokens, const StepContext& step);

// residual += attention(norm(residual)), reading and extending the KV cache of `sequence`; the
// tokens are at positions [first_position, first_position + tokens).
absl::Status RunAttention(const AttentionBlock& block, int64_t tokens, int64_t first_position,
                          int sequence, const StepContext& step);

// residual += mlp(norm(residual)).
absl::Status RunMlp(const MlpBlock& block, int64_t tokens, const StepContext& step);

// workspace.logits [vocab] of the one token whose residual is at `residual` [dim], on all ranks of
// the group.
absl::Status RunHead(const HeadBlock& block, const float* residual, const StepContext& step);

// block_output, the rank's part of a block's output, becomes the group's sum, gets bias and norm
// where there are any, and is added to the residual.
absl::Status AddToResidual(int64_t tokens, const float* bias, const float* post_norm_weight,
                           const NormSpec& norm, const StepContext& step);

}  // namespace tprun
