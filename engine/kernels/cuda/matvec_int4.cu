#include "engine/kernels/cuda/matvec.cuh"
#include "engine/kernels/cuda/packed_formats.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecInt4(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Int4<F16Element>>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
