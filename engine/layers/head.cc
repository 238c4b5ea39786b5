#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status RunHead(const HeadBlock& block, const float* residual, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  RETURN_IF_ERROR(
      kernels.RmsNorm(residual, block.norm_weight, 1, step.dim, block.norm, work.normed));
  float* shard = step.group == nullptr ? work.logits : work.logits_shard;
  RETURN_IF_ERROR(kernels.MatMul(work.normed, block.weight, nullptr, 1, shard, block.weight.rows));
  if (block.logit_softcap > 0) {
    RETURN_IF_ERROR(kernels.Softcap(shard, block.weight.rows, block.logit_softcap));
  }
  if (step.group == nullptr) return absl::OkStatus();
  return step.group->AllGather(shard, work.logits, block.row_counts, DType::kF32);
}

}  // namespace tprun
