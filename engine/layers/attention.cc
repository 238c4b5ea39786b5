#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {
namespace {

// q, k and v of a chunk side by side in workspace.qkv: [tokens, query | key | value].
struct Qkv {
  float* query;
  float* key;
  float* value;
  int64_t stride;  // floats from token to token
};

absl::StatusOr<Qkv> Project(const AttentionBlock& block, int64_t tokens, const StepContext& step) {
  const int64_t query_columns = block.query.rows;
  const int64_t kv_columns = block.key.rows;
  const int64_t stride = query_columns + 2 * kv_columns;
  float* query = step.workspace.qkv;
  const Qkv qkv = {query, query + query_columns, query + query_columns + kv_columns, stride};
  RETURN_IF_ERROR(step.kernels.MatMuls(step.workspace.normed,
                                       {{block.query, block.query_bias, qkv.query, stride},
                                        {block.key, block.key_bias, qkv.key, stride},
                                        {block.value, block.value_bias, qkv.value, stride}},
                                       tokens));
  return qkv;
}

// Norms over the heads of q and k, where the model has them.
absl::Status NormHeads(const AttentionBlock& block, const Qkv& qkv, int64_t tokens,
                       Kernels& kernels) {
  if (block.query_norm != nullptr) {
    RETURN_IF_ERROR(kernels.HeadNorm(qkv.query, block.query_norm, tokens, block.shape.query_heads,
                                     block.head_dim, qkv.stride, block.norm.norm));
  }
  if (block.key_norm == nullptr) return absl::OkStatus();
  return kernels.HeadNorm(qkv.key, block.key_norm, tokens, block.kv_heads, block.head_dim,
                          qkv.stride, block.norm.norm);
}

// block_output = the part of this rank's heads, from workspace.normed.
absl::Status RunHeads(const AttentionBlock& block, const TokenBatch& batch,
                      const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  const int64_t tokens = batch.tokens;
  ASSIGN_OR_RETURN(const Qkv qkv, Project(block, tokens, step));
  RETURN_IF_ERROR(NormHeads(block, qkv, tokens, kernels));
  RETURN_IF_ERROR(kernels.RopeStoreKv(qkv.query, qkv.key, qkv.value, qkv.stride, batch,
                                      block.shape.query_heads, block.rope,
                                      block.inverse_frequencies, block.cache));
  RETURN_IF_ERROR(
      kernels.Attention(qkv.query, qkv.stride, batch, block.cache, block.shape, work.attention));
  RETURN_IF_ERROR(AwaitOutput(step));
  return kernels.MatMul(work.attention, block.out, nullptr, tokens, work.block_output, step.dim);
}

}  // namespace

absl::Status RunAttention(const AttentionBlock& block, const TokenBatch& batch,
                          const StepContext& step) {
  const int64_t tokens = batch.tokens;
  RETURN_IF_ERROR(NormInput(block.norm, tokens, step));
  RETURN_IF_ERROR(block.latent.kv_rank > 0 ? RunLatentAttention(block, batch, step)
                                           : RunHeads(block, batch, step));
  return AddToResidual(tokens, block.out_bias, block.post_norm_weight, block.norm.norm, step);
}

}  // namespace tprun
