#include "engine/kernels/cuda/matvec.cuh"
#include "engine/kernels/cuda/packed_formats.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecMxfp4(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Mxfp4>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
