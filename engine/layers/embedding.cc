#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status RunEmbedding(const EmbeddingBlock& block, int64_t tokens, const StepContext& step) {
  float* out = step.workspace.residual;
  RETURN_IF_ERROR(step.kernels.Embedding(block.table, step.workspace.token_ids, tokens,
                                         block.first_row, block.scale, out));
  if (step.group == nullptr) return absl::OkStatus();
  return step.group->AllReduceSum(out, out, tokens * step.dim, DType::kF32);
}

}  // namespace tprun
