#include "engine/kernels/cuda/attention_prefill.cuh"

namespace tprun::cuda {

cudaError_t LaunchPrefillF16(const Stream& stream, const PrefillArguments& p, int groups,
                             int most_heads) {
  return LaunchPrefillOf<PrefillF16>(stream, p, groups, most_heads);
}

bool PrefillTakesF16(int head_dim, size_t most_shared_bytes) {
  return PrefillTakes<PrefillF16>(head_dim, most_shared_bytes);
}

}  // namespace tprun::cuda
