#include "engine/kernels/cuda/attention.cuh"

namespace tprun::cuda {

cudaError_t LaunchAttentionF16(const Stream& stream, const AttentionArguments& a,
                               const AttentionPlan& plan) {
  return LaunchAttentionOf<F16Element>(stream, a, plan);
}

}  // namespace tprun::cuda
