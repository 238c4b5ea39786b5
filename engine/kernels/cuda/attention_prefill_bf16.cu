#include "engine/kernels/cuda/attention_prefill.cuh"

namespace tprun::cuda {

cudaError_t LaunchPrefillBf16(const Stream& stream, const PrefillArguments& p, int groups,
                              int most_heads) {
  return LaunchPrefillOf<TileBf16>(stream, p, groups, most_heads);
}

}  // namespace tprun::cuda
