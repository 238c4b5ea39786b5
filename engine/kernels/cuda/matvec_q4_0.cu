#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecQ4_0(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Q4_0>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
