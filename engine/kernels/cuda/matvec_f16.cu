#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecF16(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<F16>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
