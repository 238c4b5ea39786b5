#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/ops.h"

// Products of fp8 weights with activations rounded to fp8, for many tokens, in cuBLASLt.

namespace tprun::cuda {

// Columns that have one scale, in a row of weights and in a token's activations.
constexpr int64_t kFp8Group = 128;

// What the way of a product depends on.
struct Fp8Question {
  bool rounded = false;  // activations may be rounded to fp8
  int compute_capability = 0;
  size_t cublaslt_version = 0;  // 120900 for 12.9.0
  int64_t tokens = 0, rows = 0, columns = 0;
  int64_t out_stride = 0;   // floats
  bool out_aligned = true;  // starts at a multiple of 16 bytes
};

// How many of the tokens go through fp8, the first ones; 0: none. With a scale for 128 columns of
// both factors cuBLASLt has such products for compute capability 9.0 only, since 12.9, of rows and
// tokens that are multiples of 4, in memory at multiples of 16 bytes (cuBLAS 13 documentation,
// "128-element 1D and 128x128 2D Block Scaling For FP8 Data Types" and "cublasLtMatmul").
inline int64_t TokensInFp8(const Fp8Question& q) {
  if (!q.rounded || q.compute_capability != 90 || q.cublaslt_version < 120900) return 0;
  if (q.rows % 4 != 0 || q.columns == 0 || q.columns % kFp8Group != 0) return 0;
  if (q.out_stride % 4 != 0 || !q.out_aligned || q.tokens <= kMostMatVecTokens) return 0;
  return q.tokens / 4 * 4;
}

// How many rows of `columns` fit `bytes` with their scales: lines of 64, as cuBLASLt likes them, or
// a multiple of 4; 0: not even that.
inline int64_t Fp8RowsThatFit(int64_t bytes, int64_t columns) {
  const int64_t most = bytes / (columns + 4 * (columns / kFp8Group));
  return most >= 64 ? most / 64 * 64 : most / 4 * 4;
}

// A factor: values [n, columns] one row after another, and scales [columns / kFp8Group, n].
struct Fp8Factor {
  const void* values = nullptr;
  const float* scales = nullptr;
};

// fp8_products.cu

// The rounded rows of x: a group's largest magnitude becomes 448.
cudaError_t QuantizeToFp8(const Stream& stream, const float* x, int64_t tokens, int64_t columns,
                          void* values, float* scales);
// Rows [first_row, first_row + rows) of w, which are arranged, as a factor.
cudaError_t UnpackFp8(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                      void* values, float* scales);

}  // namespace tprun::cuda
