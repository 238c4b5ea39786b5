#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecQ6_K(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Q6_K>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
