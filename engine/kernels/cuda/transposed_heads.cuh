#pragma once

#include "engine/kernels/cuda/weights.cuh"

namespace tprun::cuda {

constexpr int kHeadLanes = 32;  // units of columns of a block
constexpr int kHeadSlices = 8;  // of the rows, added up at the end
constexpr int kHeadTokens = 8;  // of a block

// Grid: columns, heads, tokens. Block: kHeadLanes x kHeadSlices.
template <class Reader>
__global__ void __launch_bounds__(kHeadLanes* kHeadSlices)
    TransposedHeadsKernel(Matrix w, int64_t rows, HeadRows x, int64_t tokens, HeadRows out) {
  constexpr int kElements = Reader::kElements;
  __shared__ float parts[kHeadSlices][kHeadLanes * kElements];
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int lane = threadIdx.x % kHeadLanes, slice = threadIdx.x / kHeadLanes;
  const int64_t unit = int64_t{blockIdx.x} * kHeadLanes + lane, head = blockIdx.y;
  const int64_t first = int64_t{blockIdx.z} * kHeadTokens;
  const bool inside = unit < w.columns / kElements;
  const float* from = x.data + first * x.token_stride + head * x.head_stride;
  float sums[kHeadTokens][kElements] = {};
  for (int64_t r = slice; inside && r < rows; r += kHeadSlices) {
    float values[kElements];
    Reader::Read(w, head * rows + r, unit, values);
#pragma unroll
    for (int t = 0; t < kHeadTokens; ++t) {
      if (first + t >= tokens) break;
      const float factor = from[t * x.token_stride + r];
#pragma unroll
      for (int i = 0; i < kElements; ++i) sums[t][i] += factor * values[i];
    }
  }
  float* to = out.data + first * out.token_stride + head * out.head_stride;
#pragma unroll
  for (int t = 0; t < kHeadTokens; ++t) {
    if (first + t >= tokens) break;
#pragma unroll
    for (int i = 0; i < kElements; ++i) parts[slice][lane * kElements + i] = sums[t][i];
    __syncthreads();
    const int64_t column = int64_t{blockIdx.x} * kHeadLanes * kElements;
    for (int c = threadIdx.x; c < kHeadLanes * kElements; c += kHeadLanes * kHeadSlices) {
      float total = 0;
#pragma unroll
      for (int s = 0; s < kHeadSlices; ++s) total += parts[s][c];
      if (column + c < w.columns) to[t * out.token_stride + column + c] = total;
    }
    __syncthreads();
  }
}

template <class Reader>
cudaError_t LaunchTransposedHeads(const Stream& stream, const Matrix& w, const HeadRows& x,
                                  int64_t tokens, int heads, const HeadRows& out) {
  const int64_t units = w.columns / Reader::kElements;
  constexpr int64_t kMost = int64_t{65535} * kHeadTokens;
  for (int64_t first = 0; first < tokens; first += kMost) {
    const int64_t count = tokens - first < kMost ? tokens - first : kMost;
    const Grid grid = {
        dim3(static_cast<unsigned>(CeilDivide(units, kHeadLanes)), static_cast<unsigned>(heads),
             static_cast<unsigned>(CeilDivide(count, kHeadTokens))),
        dim3(kHeadLanes * kHeadSlices)};
    const HeadRows from = {x.data + first * x.token_stride, x.token_stride, x.head_stride};
    const HeadRows to = {out.data + first * out.token_stride, out.token_stride, out.head_stride};
    const cudaError_t error =
        Launch(stream, grid, &TransposedHeadsKernel<Reader>, w, w.rows / heads, from, count, to);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace tprun::cuda
