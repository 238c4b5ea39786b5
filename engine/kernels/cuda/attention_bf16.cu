#include "engine/kernels/cuda/attention.cuh"

namespace tprun::cuda {

cudaError_t LaunchAttentionBf16(const Stream& stream, const AttentionArguments& a,
                                const AttentionPlan& plan) {
  return LaunchAttentionOf<Bf16Element>(stream, a, plan);
}

}  // namespace tprun::cuda
