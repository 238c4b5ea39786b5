#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status RunMlp(const MlpBlock& block, int64_t tokens, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  RETURN_IF_ERROR(NormInput(block.norm, tokens, step));
  if (block.experts.spec.count > 0) {
    RETURN_IF_ERROR(RunExperts(block.experts, block.activation, tokens, step));
  } else {
    RETURN_IF_ERROR(kernels.GatedMatMul(work.normed, block.gate, block.up, block.activation, tokens,
                                        work.gate, work.up));
    RETURN_IF_ERROR(AwaitOutput(step));
    RETURN_IF_ERROR(
        kernels.MatMul(work.gate, block.down, nullptr, tokens, work.block_output, step.dim));
  }
  return AddToResidual(tokens, nullptr, block.post_norm_weight, block.norm.norm, step);
}

}  // namespace tprun
