#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecQ8_0(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Q8_0>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
