#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecQ5_K(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Q5_K>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
