#include "engine/kernels/cuda/attention_prefill_wide.cuh"

namespace tprun::cuda {

cudaError_t LaunchWidePrefill(const Stream& stream, const PrefillArguments& p, int groups,
                              int most_heads) {
  switch (p.a.cache.element) {
    case Element::kF32:
      return cudaErrorInvalidValue;
    case Element::kF16:
      return LaunchWidePrefillOf<TileF16>(stream, p, groups, most_heads);
    case Element::kBF16:
      return LaunchWidePrefillOf<TileBf16>(stream, p, groups, most_heads);
    case Element::kE4M3:
      return LaunchWidePrefillOf<TileE4M3>(stream, p, groups, most_heads);
    case Element::kQ8_0:
      return LaunchWidePrefillOf<TileQ8_0>(stream, p, groups, most_heads);
  }
  return cudaErrorInvalidValue;
}

}  // namespace tprun::cuda
