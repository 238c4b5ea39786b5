#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status AddToResidual(int64_t tokens, const float* bias, const float* post_norm_weight,
                           const NormSpec& norm, const StepContext& step) {
  float* output = step.workspace.block_output;
  const int64_t count = tokens * step.dim;
  if (step.group != nullptr) {
    RETURN_IF_ERROR(step.group->AllReduceSum(output, output, count, DType::kF32));
  }
  if (bias != nullptr) {
    for (int64_t t = 0; t < tokens; ++t) {
      RETURN_IF_ERROR(step.kernels.Add(output + t * step.dim, bias, step.dim));
    }
  }
  if (post_norm_weight != nullptr) {
    RETURN_IF_ERROR(step.kernels.RmsNorm(output, post_norm_weight, tokens, step.dim, norm, output));
  }
  return step.kernels.Add(step.workspace.residual, output, count);
}

absl::Status RunMlp(const MlpBlock& block, int64_t tokens, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  const int64_t columns = block.gate.rows;  // this rank's part of ffn_dim, may be 0
  RETURN_IF_ERROR(
      kernels.RmsNorm(work.residual, block.norm_weight, tokens, step.dim, block.norm, work.normed));
  RETURN_IF_ERROR(kernels.MatMul(work.normed, block.gate, nullptr, tokens, work.gate, columns));
  RETURN_IF_ERROR(kernels.MatMul(work.normed, block.up, nullptr, tokens, work.up, columns));
  RETURN_IF_ERROR(kernels.GatedActivation(block.activation, work.gate, work.up, tokens * columns));
  RETURN_IF_ERROR(
      kernels.MatMul(work.gate, block.down, nullptr, tokens, work.block_output, step.dim));
  return AddToResidual(tokens, nullptr, block.post_norm_weight, block.norm, step);
}

}  // namespace tprun
