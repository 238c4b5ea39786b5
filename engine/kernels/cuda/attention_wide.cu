#include "engine/kernels/cuda/attention.cuh"

namespace tprun::cuda {

cudaError_t LaunchAttentionWide(const Stream& stream, const AttentionArguments& a,
                                const AttentionPlan& plan) {
  constexpr int kOctets = kMostHeadDim / 256;  // of a lane
  switch (a.cache.element) {
    case Element::kF32:
      return LaunchAttention<F32Element, kWideHeads, kOctets>(stream, a, plan);
    case Element::kF16:
      return LaunchAttention<F16Element, kWideHeads, kOctets>(stream, a, plan);
    case Element::kBF16:
      return LaunchAttention<Bf16Element, kWideHeads, kOctets>(stream, a, plan);
    case Element::kE4M3:
      return LaunchAttention<E4M3Element, kWideHeads, kOctets>(stream, a, plan);
    case Element::kQ8_0:
      return LaunchAttention<Q8_0Rows, kWideHeads, kOctets>(stream, a, plan);
  }
  return cudaErrorInvalidValue;
}

}  // namespace tprun::cuda
