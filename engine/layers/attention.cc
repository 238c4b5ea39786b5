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

// RMSNorm over each head of q or k, whose tokens lie `stride` floats apart.
absl::Status NormHeads(const float* weight, float* heads, int64_t tokens, int count, int head_dim,
                       int64_t stride, const NormSpec& norm, Kernels& kernels) {
  if (weight == nullptr) return absl::OkStatus();
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = heads + t * stride;
    RETURN_IF_ERROR(kernels.RmsNorm(row, weight, count, head_dim, norm, row));
  }
  return absl::OkStatus();
}

absl::StatusOr<Qkv> Project(const AttentionBlock& block, int64_t tokens, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const float* x = step.workspace.normed;
  const int64_t query_columns = block.query.rows;
  const int64_t kv_columns = block.key.rows;
  const int64_t stride = query_columns + 2 * kv_columns;
  float* query = step.workspace.qkv;
  const Qkv qkv = {query, query + query_columns, query + query_columns + kv_columns, stride};
  RETURN_IF_ERROR(kernels.MatMul(x, block.query, block.query_bias, tokens, qkv.query, stride));
  RETURN_IF_ERROR(kernels.MatMul(x, block.key, block.key_bias, tokens, qkv.key, stride));
  RETURN_IF_ERROR(kernels.MatMul(x, block.value, block.value_bias, tokens, qkv.value, stride));
  return qkv;
}

}  // namespace

absl::Status RunAttention(const AttentionBlock& block, int64_t tokens, int64_t first_position,
                          int sequence, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  const int heads = block.shape.query_heads;
  const int head_dim = block.head_dim;
  RETURN_IF_ERROR(
      kernels.RmsNorm(work.residual, block.norm_weight, tokens, step.dim, block.norm, work.normed));
  ASSIGN_OR_RETURN(const Qkv qkv, Project(block, tokens, step));
  RETURN_IF_ERROR(NormHeads(block.query_norm, qkv.query, tokens, heads, head_dim, qkv.stride,
                            block.norm, kernels));
  RETURN_IF_ERROR(NormHeads(block.key_norm, qkv.key, tokens, block.kv_heads, head_dim, qkv.stride,
                            block.norm, kernels));
  RETURN_IF_ERROR(kernels.Rope(qkv.query, tokens, heads, head_dim, qkv.stride, block.rope,
                               block.inverse_frequencies, first_position));
  RETURN_IF_ERROR(kernels.Rope(qkv.key, tokens, block.kv_heads, head_dim, qkv.stride, block.rope,
                               block.inverse_frequencies, first_position));
  const KvCacheView& cache = block.caches[sequence];
  RETURN_IF_ERROR(kernels.StoreKv(qkv.key, qkv.value, tokens, qkv.stride, first_position, cache));
  RETURN_IF_ERROR(kernels.Attention(qkv.query, tokens, qkv.stride, first_position, cache,
                                    block.shape, work.attention));
  RETURN_IF_ERROR(
      kernels.MatMul(work.attention, block.out, nullptr, tokens, work.block_output, step.dim));
  return AddToResidual(tokens, block.out_bias, block.post_norm_weight, block.norm, step);
}

}  // namespace tprun
