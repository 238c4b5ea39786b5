#include "engine/kernels/cuda/attention.cuh"

namespace tprun::cuda {

cudaError_t LaunchAttentionF32(const Stream& stream, const AttentionArguments& a,
                               const AttentionPlan& plan) {
  return LaunchAttentionOf<F32Element>(stream, a, plan);
}

}  // namespace tprun::cuda
