#include "engine/kernels/cuda/expert_tiles.cuh"

namespace tprun::cuda {

cudaError_t LaunchKExpertTiles(const Stream& stream, Format format,
                               const MatVecArguments& arguments) {
  switch (format) {
    case Format::kQ4_K:
      return LaunchExpertTilesOf<Q4_K>(stream, arguments);
    case Format::kQ5_K:
      return LaunchExpertTilesOf<Q5_K>(stream, arguments);
    case Format::kQ6_K:
      return LaunchExpertTilesOf<Q6_K>(stream, arguments);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tprun::cuda
