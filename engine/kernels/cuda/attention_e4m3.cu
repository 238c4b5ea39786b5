#include "engine/kernels/cuda/attention.cuh"

namespace tprun::cuda {

cudaError_t LaunchAttentionE4M3(const Stream& stream, const AttentionArguments& a,
                                const AttentionPlan& plan) {
  return LaunchAttentionOf<E4M3Element>(stream, a, plan);
}

}  // namespace tprun::cuda
