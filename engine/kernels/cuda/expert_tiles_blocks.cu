#include "engine/kernels/cuda/expert_tiles.cuh"

namespace tprun::cuda {

cudaError_t LaunchBlockExpertTiles(const Stream& stream, Format format,
                                   const MatVecArguments& arguments) {
  switch (format) {
    case Format::kQ8_0:
      return LaunchExpertTilesOf<Q8_0>(stream, arguments);
    case Format::kQ4_0:
      return LaunchExpertTilesOf<Q4_0>(stream, arguments);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tprun::cuda
