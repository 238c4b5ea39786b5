#include "engine/kernels/cuda/attention_prefill.cuh"

namespace tprun::cuda {

cudaError_t LaunchPrefillF16(const Stream& stream, const PrefillArguments& p, int groups,
                             int most_heads) {
  return LaunchPrefillOf<TileF16>(stream, p, groups, most_heads);
}

}  // namespace tprun::cuda
