#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status RunEmbedding(const EmbeddingBlock& block, const StepTokens& tokens,
                          const StepContext& step) {
  const Workspace& work = step.workspace;
  float* out = step.in_parts ? work.block_output : work.residual;
  if (step.in_parts) RETURN_IF_ERROR(AwaitOutput(step));
  const int64_t count = tokens.batch.tokens;
  for (size_t stream = 0; stream < block.tables.size(); ++stream) {
    const EmbeddingTable& table = block.tables[stream];
    float* to = stream == 0 ? out : work.normed;
    RETURN_IF_ERROR(step.kernels.Embedding(table.rows, tokens.ids + stream * count, count,
                                           table.first_row, block.scale, to));
    if (stream > 0) RETURN_IF_ERROR(step.kernels.Add(out, to, count * step.dim));
  }
  if (step.in_parts) return SumOfParts(count, work.residual, step);
  if (step.group == nullptr) return absl::OkStatus();
  return step.group->AllReduceSum(out, out, count * step.dim, DType::kF32);
}

}  // namespace tprun
