#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecQ4_K(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Q4_K>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
