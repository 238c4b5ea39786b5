#include "engine/kernels/cuda/expert_tiles.cuh"

namespace tprun::cuda {

cudaError_t LaunchPlainExpertTiles(const Stream& stream, Format format,
                                   const MatVecArguments& arguments) {
  switch (format) {
    case Format::kBF16:
      return LaunchExpertTilesOf<Bf16>(stream, arguments);
    case Format::kF16:
      return LaunchExpertTilesOf<F16>(stream, arguments);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tprun::cuda
