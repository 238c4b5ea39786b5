#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {

absl::Status NormInput(const InputNorm& norm, int64_t tokens, const StepContext& step) {
  if (step.normed) return absl::OkStatus();
  return step.kernels.RmsNorm(step.workspace.residual, norm.weight, tokens, step.dim, norm.norm,
                              step.workspace.normed);
}

namespace {

// All ranks of the group go from the sum to the same norm, in one step.
bool JoinsSumAndNorm(int64_t tokens, const StepContext& step) {
  return step.group != nullptr && step.next_norm != nullptr && step.all_norm &&
         step.group->FusesNorm(tokens, step.dim);
}

}  // namespace

absl::Status AddToResidual(int64_t tokens, const float* bias, const float* post_norm_weight,
                           const NormSpec& norm, const StepContext& step) {
  float* output = step.workspace.block_output;
  const int64_t count = tokens * step.dim;
  if (JoinsSumAndNorm(tokens, step) && bias == nullptr && post_norm_weight == nullptr) {
    const InputNorm& next = *step.next_norm;
    return step.group->AllReduceAddNorm({output, step.workspace.residual, next.weight,
                                         step.workspace.normed, tokens, step.dim, next.norm.eps,
                                         next.norm.unit_offset});
  }
  if (step.group != nullptr) {
    RETURN_IF_ERROR(step.group->AllReduceSum(output, output, count, DType::kF32));
  }
  if (bias != nullptr) {
    RETURN_IF_ERROR(step.kernels.AddBias(output, bias, tokens, step.dim));
  }
  if (post_norm_weight != nullptr) {
    RETURN_IF_ERROR(step.kernels.RmsNorm(output, post_norm_weight, tokens, step.dim, norm, output));
  }
  float* residual = step.workspace.residual;
  if (step.next_norm == nullptr) return step.kernels.Add(residual, output, count);
  return step.kernels.AddRmsNorm(residual, output, step.next_norm->weight, tokens, step.dim,
                                 step.next_norm->norm, step.workspace.normed);
}

absl::Status RunMlp(const MlpBlock& block, int64_t tokens, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  RETURN_IF_ERROR(NormInput(block.norm, tokens, step));
  if (block.experts.spec.count > 0) {
    RETURN_IF_ERROR(RunExperts(block.experts, block.activation, tokens, step));
  } else {
    RETURN_IF_ERROR(kernels.GatedMatMul(work.normed, block.gate, block.up, block.activation, tokens,
                                        work.gate, work.up));
    RETURN_IF_ERROR(
        kernels.MatMul(work.gate, block.down, nullptr, tokens, work.block_output, step.dim));
  }
  return AddToResidual(tokens, nullptr, block.post_norm_weight, block.norm.norm, step);
}

}  // namespace tprun
