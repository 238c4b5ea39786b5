#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/reduce.cuh"

namespace tprun::cuda {
namespace {

__device__ __forceinline__ float Scale(float squares, const NormRows& norm) {
  return 1.0f / sqrtf(squares / static_cast<float>(norm.dim) + norm.eps);
}

__device__ __forceinline__ float Weight(const NormRows& norm, int64_t i) {
  return norm.weight[i] + (norm.unit_offset ? 1.0f : 0.0f);
}

// Block: a row; thread: every blockDim.x-th element of it.
__global__ void __launch_bounds__(1024)
    RmsNormKernel(const float* x, int64_t stride, NormRows norm, float* out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t at = blockIdx.y * stride + blockIdx.x * norm.dim;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < norm.dim; i += blockDim.x) squares += x[at + i] * x[at + i];
  const float scale = Scale(SumOfBlock(squares), norm);
  for (int64_t i = threadIdx.x; i < norm.dim; i += blockDim.x) {
    out[at + i] = x[at + i] * scale * Weight(norm, i);
  }
}

__global__ void __launch_bounds__(1024)
    AddRmsNormKernel(float* residual, const float* y, NormRows norm, float* out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t at = blockIdx.x * norm.dim;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < norm.dim; i += blockDim.x) {
    const float sum = residual[at + i] + y[at + i];
    residual[at + i] = sum;
    squares += sum * sum;
  }
  const float scale = Scale(SumOfBlock(squares), norm);
  for (int64_t i = threadIdx.x; i < norm.dim; i += blockDim.x) {
    out[at + i] = residual[at + i] * scale * Weight(norm, i);
  }
}

// Four elements each, as far as a block goes.
dim3 ThreadsFor(int64_t dim) {
  const int64_t wanted = (dim + 127) / 128 * 32;
  return dim3(static_cast<unsigned>(wanted < 32 ? 32 : wanted > 1024 ? 1024 : wanted));
}

}  // namespace

cudaError_t RmsNorm(const Stream& stream, const float* x, int64_t tokens, int64_t heads,
                    int64_t stride, const NormRows& norm, float* out) {
  // Tokens go to grid.y, which is narrower: in parts.
  constexpr int64_t kMost = 65535;
  for (int64_t first = 0; first < tokens; first += kMost) {
    const int64_t count = tokens - first < kMost ? tokens - first : kMost;
    const Grid grid = {dim3(static_cast<unsigned>(heads), static_cast<unsigned>(count)),
                       ThreadsFor(norm.dim)};
    const cudaError_t error = Launch(stream, grid, &RmsNormKernel, x + first * stride, stride, norm,
                                     out + first * stride);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t AddRmsNorm(const Stream& stream, float* residual, const float* y, int64_t tokens,
                       const NormRows& norm, float* out) {
  const Grid grid = {dim3(static_cast<unsigned>(tokens)), ThreadsFor(norm.dim)};
  return Launch(stream, grid, &AddRmsNormKernel, residual, y, norm, out);
}

}  // namespace tprun::cuda
