#include "engine/kernels/cuda/attention_prefill.cuh"

namespace tprun::cuda {

cudaError_t LaunchPrefillE4M3(const Stream& stream, const PrefillArguments& p, int groups,
                              int most_heads) {
  return LaunchPrefillOf<TileE4M3>(stream, p, groups, most_heads);
}

}  // namespace tprun::cuda
