#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "comm/communicator.h"
#include "engine/kernels/kernels.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The blocks of a model as one rank runs them: pointers to its shards, and the steps over kernels
// and its group. Nothing is owned; all pointers are on the rank's device and outlive the block. A
// rank with an empty share adds zeros to the group's sum.

// Where a block works. See RegionUse for the shapes.
struct Workspace {
  float* residual = nullptr;
  float* normed = nullptr;
  float* block_output = nullptr;
  float* qkv = nullptr;
  float* attention = nullptr;
  float* gate = nullptr;
  float* up = nullptr;
  float* routing = nullptr;
  float* depth_hidden = nullptr;
  float* logits_shard = nullptr;
  float* logits = nullptr;
  BestLogit* best_shard = nullptr;
  BestLogit* best = nullptr;
  SampleRequest* sampling = nullptr;
  uint32_t* seen = nullptr;
  int32_t* step_inputs = nullptr;
};

// The tokens of a step: their ids are on the device, as the arrays of the batch.
struct StepTokens {
  const int32_t* ids = nullptr;  // [streams, batch.tokens]
  TokenBatch batch;
};

// Tokens [begin, end) of a step.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The norm that a block begins with.
struct InputNorm {
  const float* weight = nullptr;  // [dim]
  NormSpec norm;
};

// What every step needs. `group` is the communicator of the block's ranks, nullptr for a single
// one.
struct StepContext {
  Kernels& kernels;
  Communicator* group;
  const Workspace& workspace;
  int64_t dim;
  // Of the next block, where this rank runs it too: workspace.normed gets it of the new residual,
  // in one pass with the sum. nullptr: only the residual.
  const InputNorm* next_norm = nullptr;
  bool normed = false;    // the block before has done so
  bool all_norm = false;  // every rank of the group has this next_norm
  // Where this rank has its block_output in memory that others read, of this group or another.
  SharedParts* parts = nullptr;
  bool in_parts = false;  // those of this group: its sums are formed where the parts are
};

// A rank's rows of a vocabulary.
struct EmbeddingTable {
  WeightMatrix rows;
  int64_t first_row = 0;
};

struct EmbeddingBlock {
  std::vector<EmbeddingTable> tables;  // of each stream of tokens
  float scale = 1;
};

// What latent attention has beside `query` (from the latent query where query_down has rows) and
// `out`. Its cache has one KV head of row() elements, whose keys are its values.
struct LatentBlock {
  int kv_rank = 0;  // 0: no latent attention
  int rope_dim = 0;
  WeightMatrix query_down, kv_down, key_down, key_up, value_up;
  bool key_up_is_transposed = false;
  const float* query_down_norm = nullptr;
  const float* kv_down_norm = nullptr;
  int64_t row() const { return kv_rank + rope_dim; }
};

struct AttentionBlock {
  InputNorm norm;                           // its NormSpec is that of all norms of the block
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
  KvCacheView cache;
  LatentBlock latent;
};

// A mixture of experts, of which this rank has `experts` from first_expert on, and some columns of
// the shared ones.
struct ExpertsBlock {
  ExpertsSpec spec;  // count 0: a dense MLP
  int first_expert = 0;
  int experts = 0;
  WeightMatrix router;
  const float* router_bias = nullptr;  // or none
  const float* choice_bias = nullptr;
  ExpertMatrices gate, up, down;
  WeightMatrix shared_gate, shared_up, shared_down;
  WeightMatrix shared_router;  // or none
};

struct MlpBlock {
  InputNorm norm;
  const float* post_norm_weight = nullptr;  // or none
  Activation activation = Activation::kSilu;
  WeightMatrix gate, up, down;
  ExpertsBlock experts;
};

struct HeadBlock {
  InputNorm norm;
  WeightMatrix weight;  // the rank's rows of the vocabulary
  int64_t first_row = 0;
  std::vector<int64_t> row_counts;  // of each rank of the group
  float logit_softcap = 0;
};

// residual = the sum of the streams' embeddings of the tokens, the same on all ranks of the group.
absl::Status RunEmbedding(const EmbeddingBlock& block, const StepTokens& tokens,
                          const StepContext& step);

// residual += attention(norm(residual)), reading and extending the KV cache.
absl::Status RunAttention(const AttentionBlock& block, const TokenBatch& batch,
                          const StepContext& step);

// block_output = the part of this rank, which has some of the heads, from workspace.normed.
absl::Status RunLatentAttention(const AttentionBlock& block, const TokenBatch& batch,
                                const StepContext& step);

// block_output = the part of this rank's experts, from workspace.normed.
absl::Status RunExperts(const ExpertsBlock& block, Activation activation, int64_t tokens,
                        const StepContext& step);

// residual += mlp(norm(residual)).
absl::Status RunMlp(const MlpBlock& block, int64_t tokens, const StepContext& step);

// The logits of some tokens of the step, whose residuals all ranks of the group have, on all of
// them: in workspace.logits one part per rank of the group, each [tokens, its rows].
absl::Status RunHead(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                     const StepContext& step);

// Only the best of those logits: in workspace.best one part per rank of the group, each [tokens].
absl::Status RunGreedyHead(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                           const StepContext& step);

// A token drawn from each row of those logits as workspace.sampling says, on every rank of the
// group: workspace.best [tokens].
absl::Status RunSampledHead(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                            const StepContext& step);

// workspace.normed = norm(residual), unless the block before has done so.
absl::Status NormInput(const InputNorm& norm, int64_t tokens, const StepContext& step);

// Before block_output is written: all have read what was there.
absl::Status AwaitOutput(const StepContext& step);

// out = the sum of the group's parts, where step.in_parts: each in its rank's block_output.
absl::Status SumOfParts(int64_t tokens, float* out, const StepContext& step);

// block_output, the rank's part of a block's output, becomes the group's sum, gets bias and norm
// where there are any, and is added to the residual.
absl::Status AddToResidual(int64_t tokens, const float* bias, const float* post_norm_weight,
                           const NormSpec& norm, const StepContext& step);

}  // namespace tprun
