#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status RunEmbedding(const EmbeddingBlock& block, const StepTokens& tokens,
                          const StepContext& step) {
  float* out = step.workspace.residual;
  const int64_t count = tokens.batch.tokens;
  RETURN_IF_ERROR(
      step.kernels.Embedding(block.table, tokens.ids, count, block.first_row, block.scale, out));
  if (step.group == nullptr) return absl::OkStatus();
  return step.group->AllReduceSum(out, out, count * step.dim, DType::kF32);
}

}  // namespace tprun
