#include "engine/kernels/cuda/expert_tiles.cuh"
#include "engine/kernels/cuda/packed_formats.cuh"

namespace tprun::cuda {

cudaError_t LaunchPackedExpertTiles(const Stream& stream, Format format,
                                    const MatVecArguments& arguments) {
  switch (format) {
    case Format::kMxfp4:
      return LaunchExpertTilesOf<Mxfp4>(stream, arguments);
    case Format::kFp8:
      return LaunchExpertTilesOf<Fp8>(stream, arguments);
    case Format::kInt4G128:
      return LaunchExpertTilesOf<Int4<F16Element>>(stream, arguments);
    case Format::kInt4G128Bf16:
      return LaunchExpertTilesOf<Int4<Bf16Element>>(stream, arguments);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tprun::cuda
