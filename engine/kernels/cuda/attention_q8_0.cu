#include "engine/kernels/cuda/attention.cuh"

namespace tprun::cuda {

cudaError_t LaunchAttentionQ8_0(const Stream& stream, const AttentionArguments& a,
                                const AttentionPlan& plan) {
  return LaunchAttentionOf<Q8_0Rows>(stream, a, plan);
}

}  // namespace tprun::cuda
