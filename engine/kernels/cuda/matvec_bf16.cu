#include "engine/kernels/cuda/matvec.cuh"

namespace tprun::cuda {

cudaError_t LaunchMatVecBf16(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  return LaunchMatVecOf<Bf16>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
