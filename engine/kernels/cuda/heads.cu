// A matrix per head, as latent attention has them, apart from products by rows.

#include "engine/kernels/cuda/format_ops.h"
#include "engine/kernels/cuda/intrinsics.cuh"

namespace tprun::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    CopyHeadsKernel(HeadRows x, int heads, int64_t count, HeadRows out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t t = blockIdx.x;
  for (int64_t i = threadIdx.x; i < heads * count; i += kThreads) {
    const int64_t head = i / count, element = i % count;
    out.data[t * out.token_stride + head * out.head_stride + element] =
        x.data[t * x.token_stride + head * x.head_stride + element];
  }
}

}  // namespace

cudaError_t CopyHeads(const Stream& stream, const HeadRows& x, int64_t tokens, int heads,
                      int64_t count, const HeadRows& out) {
  const Grid grid = {dim3(static_cast<unsigned>(tokens)), dim3(kThreads)};
  return Launch(stream, grid, &CopyHeadsKernel, x, heads, count, out);
}

cudaError_t TransposedHeads(const Stream& stream, const Matrix& w, const HeadRows& x,
                            int64_t tokens, int heads, const HeadRows& out) {
  return OpsOf(w.format)->transposed(stream, w, x, tokens, heads, out);
}

}  // namespace tprun::cuda
