#include "base/status_macros.h"
#include "engine/layers/layers.h"

// Multi-head latent attention in its absorbed form (DeepSeek-V2, arXiv 2405.04434, section 2.1): a
// head's key projection is multiplied into its query and its value projection applied to the
// weighted latent vectors, so that attention is that of one KV head whose keys are [rotated key |
// latent vector] and whose values are the same rows.

namespace tprun {
namespace {

// The pieces of workspace.qkv and workspace.attention for a step.
struct Pieces {
  Pieces(const LatentBlock& block, int64_t heads, int64_t head_dim, int64_t tokens,
         const Workspace& work)
      : query_latent(work.qkv),
        query(query_latent + tokens * block.query_down.rows),
        key(query + tokens * heads * head_dim),
        absorbed(key + tokens * block.row()),
        attended(work.attention),
        values(attended + tokens * heads * block.row()) {}
  float* query_latent;  // [tokens, query_rank]
  float* query;         // [tokens, heads, plain | rotated]
  float* key;           // [tokens, row]
  float* absorbed;      // [tokens, heads, row]
  float* attended;      // [tokens, heads, row]
  float* values;        // [tokens, heads, value_dim]
};

absl::Status ProjectQuery(const AttentionBlock& block, int64_t tokens, const Pieces& at,
                          const StepContext& step) {
  Kernels& kernels = step.kernels;
  const LatentBlock& latent = block.latent;
  const float* normed = step.workspace.normed;
  const int64_t columns = block.query.rows;
  if (latent.query_down.rows == 0) {
    return kernels.MatMul(normed, block.query, nullptr, tokens, at.query, columns);
  }
  const int64_t rank = latent.query_down.rows;
  RETURN_IF_ERROR(
      kernels.MatMul(normed, latent.query_down, nullptr, tokens, at.query_latent, rank));
  RETURN_IF_ERROR(kernels.RmsNorm(at.query_latent, latent.query_down_norm, tokens, rank,
                                  block.norm.norm, at.query_latent));
  return kernels.MatMul(at.query_latent, block.query, nullptr, tokens, at.query, columns);
}

absl::Status ProjectKey(const AttentionBlock& block, int64_t tokens, const Pieces& at,
                        const StepContext& step) {
  const LatentBlock& latent = block.latent;
  const int64_t row = latent.row();
  float* vector = at.key + latent.rope_dim;
  RETURN_IF_ERROR(step.kernels.MatMuls(
      step.workspace.normed,
      {{latent.key_down, nullptr, at.key, row}, {latent.kv_down, nullptr, vector, row}}, tokens));
  return step.kernels.HeadNorm(vector, latent.kv_down_norm, tokens, 1, latent.kv_rank, row,
                               block.norm.norm);
}

// absorbed = [rotated query | plain query times the key projection].
absl::Status AbsorbQuery(const AttentionBlock& block, int64_t tokens, const Pieces& at,
                         Kernels& kernels) {
  const LatentBlock& latent = block.latent;
  const int heads = block.shape.query_heads;
  const int64_t plain = block.head_dim - latent.rope_dim;
  const HeadVectors query = {at.query, heads * int64_t{block.head_dim}, block.head_dim};
  const HeadVectors rotated = {at.query + plain, query.token_stride, query.head_stride};
  const HeadVectors absorbed = {at.absorbed, heads * latent.row(), latent.row()};
  const HeadVectors vectors = {at.absorbed + latent.rope_dim, absorbed.token_stride,
                               absorbed.head_stride};
  RETURN_IF_ERROR(kernels.CopyHeads(rotated, tokens, heads, latent.rope_dim, absorbed));
  return kernels.HeadMatMul(query, latent.key_up, !latent.key_up_is_transposed, tokens, heads,
                            vectors);
}

}  // namespace

absl::Status RunLatentAttention(const AttentionBlock& block, const TokenBatch& batch,
                                const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  const LatentBlock& latent = block.latent;
  const int heads = block.shape.query_heads;
  const int64_t tokens = batch.tokens, row = latent.row();
  const Pieces at(latent, heads, block.head_dim, tokens, work);
  if (heads > 0) {
    RETURN_IF_ERROR(ProjectQuery(block, tokens, at, step));
    RETURN_IF_ERROR(ProjectKey(block, tokens, at, step));
    RETURN_IF_ERROR(AbsorbQuery(block, tokens, at, kernels));
    const int width = static_cast<int>(row);
    RETURN_IF_ERROR(kernels.Rope(at.absorbed, batch, heads, width, heads * row, block.rope,
                                 block.inverse_frequencies));
    RETURN_IF_ERROR(
        kernels.Rope(at.key, batch, 1, width, row, block.rope, block.inverse_frequencies));
    RETURN_IF_ERROR(kernels.StoreKv(at.key, at.key, row, batch, block.cache));
    RETURN_IF_ERROR(
        kernels.Attention(at.absorbed, heads * row, batch, block.cache, block.shape, at.attended));
    const HeadVectors vectors = {at.attended + latent.rope_dim, heads * row, row};
    const int64_t value_dim = latent.value_up.rows / heads;
    RETURN_IF_ERROR(kernels.HeadMatMul(vectors, latent.value_up, false, tokens, heads,
                                       {at.values, heads * value_dim, value_dim}));
  }
  RETURN_IF_ERROR(AwaitOutput(step));
  return kernels.MatMul(at.values, block.out, nullptr, tokens, work.block_output, step.dim);
}

}  // namespace tprun
