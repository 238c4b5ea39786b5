#include "engine/kernels/cuda/attention_prefill.cuh"

namespace tprun::cuda {

cudaError_t LaunchPrefillQ8_0(const Stream& stream, const PrefillArguments& p, int groups,
                              int most_heads) {
  return LaunchPrefillOf<TileQ8_0>(stream, p, groups, most_heads);
}

}  // namespace tprun::cuda
