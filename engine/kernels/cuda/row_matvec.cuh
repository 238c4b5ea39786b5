#pragma once

#include "engine/kernels/cuda/activations.cuh"
#include "engine/kernels/cuda/matvec.h"
#include "engine/kernels/cuda/reduce.cuh"
#include "engine/kernels/cuda/stack.cuh"
#include "engine/kernels/cuda/weights.cuh"

// The product of a matrix with a few tokens in f32, for every format that has a reader
// (weights.cuh): a warp computes a row, its lanes taking every 32nd unit of the reader. Correct,
// at a fraction of the memory's speed; matvec.cuh is what runs at all of it.

namespace tprun::cuda {

constexpr int kRowWarps = 8;

template <class Reader>
struct RowSums {
  float sums[kMostMatVecTokens];

  __device__ __forceinline__ void Add(const Matrix& w, int64_t row, const float* x, int64_t stride,
                                      const ItemRows<kMostMatVecTokens>& item) {
#pragma unroll
    for (int t = 0; t < kMostMatVecTokens; ++t) sums[t] = 0;
    constexpr int kElements = Reader::kElements;
    for (int64_t unit = threadIdx.x % 32; unit < w.columns / kElements; unit += 32) {
      float values[kElements];
      Reader::Read(w, row, unit, values);
#pragma unroll
      for (int t = 0; t < kMostMatVecTokens; ++t) {
        if (t >= item.tokens) break;
        const float* at = x + item.x_row[t] * stride + unit * kElements;
#pragma unroll
        for (int i = 0; i < kElements; ++i) sums[t] += values[i] * at[i];
      }
    }
#pragma unroll
    for (int t = 0; t < kMostMatVecTokens; ++t) {
      if (t >= item.tokens) break;
      sums[t] = SumOfWarp(sums[t]);
    }
  }
};

__device__ __forceinline__ float BiasAt(const MatVecTarget& target, int64_t matrix, int64_t row) {
  return target.bias == nullptr ? 0.0f : target.bias[matrix * target.rows + row];
}

// One target, or with a gate two.
template <class Reader>
__global__ void __launch_bounds__(kRowWarps * 32)
    RowMatVecKernel(MatVecArguments a, Format format) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const bool stacked = a.stack.items > 0;
  const auto item =
      stacked ? RowsOfItem<kMostMatVecTokens>(a.stack) : RowsOf<kMostMatVecTokens, false>(a);
  const MatVecTarget& target = a.targets[0];
  const int64_t row = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / 32;
  if (item.tokens == 0 || row >= target.rows) return;
  const float* x = a.x + item.x_at;
  const int64_t stride = stacked ? a.stack.x_stride : a.columns;
  const auto matrix = [&](const MatVecTarget& of) {
    const char* data = static_cast<const char*>(of.data) + item.matrix * a.stack.matrix_bytes;
    return Matrix{data, format, of.rows, a.columns};
  };
  RowSums<Reader> main, up;
  main.Add(matrix(target), row, x, stride, item);
  if (a.gate != Gate::kNone) up.Add(matrix(a.targets[1]), row, x, stride, item);
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int t = 0; t < kMostMatVecTokens; ++t) {
    if (t >= item.tokens) break;
    float value = main.sums[t] + BiasAt(target, item.matrix, row);
    if (a.gate != Gate::kNone) {
      value = Gated(a.gate, value, up.sums[t] + BiasAt(a.targets[1], item.matrix, row));
    }
    target.out[item.out_at + item.out_row[t] * target.out_stride + row] = value;
  }
}

template <class Reader>
cudaError_t LaunchRowMatVec(const Stream& stream, Format format, const MatVecArguments& arguments) {
  const unsigned items = arguments.stack.items > 0 ? arguments.stack.items : 1;
  const Grid grid = {
      dim3(static_cast<unsigned>(CeilDivide(arguments.targets[0].rows, kRowWarps)), 1, items),
      dim3(kRowWarps * 32)};
  return Launch(stream, grid, &RowMatVecKernel<Reader>, arguments, format);
}

}  // namespace tprun::cuda
