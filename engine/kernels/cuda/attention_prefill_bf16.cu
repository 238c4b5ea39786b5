#include "engine/kernels/cuda/attention_prefill.cuh"

namespace tprun::cuda {

cudaError_t LaunchPrefillBf16(const Stream& stream, const PrefillArguments& p, int groups,
                              int most_heads) {
  return LaunchPrefillOf<PrefillBf16>(stream, p, groups, most_heads);
}

bool PrefillTakesBf16(int head_dim, size_t most_shared_bytes) {
  return PrefillTakes<PrefillBf16>(head_dim, most_shared_bytes);
}

}  // namespace tprun::cuda
