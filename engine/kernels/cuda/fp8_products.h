#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/ops.h"

// Products of fp8 weights with activations rounded to fp8, for many tokens, in cuBLASLt.

namespace tprun::cuda {

// Columns that have one scale, in a row of weights and in a token's activations.
constexpr int64_t kFp8Group = 128;

// How a product is scaled: by factors of 128 columns of both, within the product; or by one of each
// token and one of each row of weights, after it. A device has one of the two.
enum class Fp8Way { kNone, kGroups, kRows };
struct Fp8Choice {
  Fp8Way way = Fp8Way::kNone;
  int64_t tokens = 0;  // that go that way, the first ones
};

// What the way of a product depends on.
struct Fp8Question {
  bool rounded = false;     // activations may be rounded to fp8
  bool row_scaled = false;  // each row of the weights has one scale, as a tensor's or a channel's
  int compute_capability = 0;
  size_t cublaslt_version = 0;  // 120900 for 12.9.0
  int64_t tokens = 0, rows = 0, columns = 0;
  int64_t out_stride = 0;   // floats
  bool out_aligned = true;  // starts at a multiple of 16 bytes
};

// With a scale for 128 columns of both factors cuBLASLt has products for compute capability 9.0
// only, since 12.9, of rows and tokens that are multiples of 4 (cuBLAS 13 documentation,
// "128-element 1D and 128x128 2D Block Scaling For FP8 Data Types"). With one scale for a whole
// factor, or none, it has them from 8.9 on ("Narrow Precision Data Types Usage"), of dimensions and
// addresses that are multiples of 16 bytes ("cublasLtMatmul", "Tensor Core Usage").
inline Fp8Choice ChooseFp8(const Fp8Question& q) {
  if (!q.rounded || q.tokens <= kMostMatVecTokens) return {};
  if (q.columns == 0 || q.columns % kFp8Group != 0) return {};
  if (q.out_stride % 4 != 0 || !q.out_aligned) return {};
  if (q.compute_capability == 90 && q.cublaslt_version >= 120900) {
    if (q.rows % 4 != 0) return {};
    return {Fp8Way::kGroups, q.tokens / 4 * 4};
  }
  if (q.compute_capability < 89 || !q.row_scaled || q.rows % 16 != 0) return {};
  return {Fp8Way::kRows, q.tokens};
}

// How many rows of `columns` fit `bytes` with their scales: lines of 64, as cuBLASLt likes them, or
// a multiple of 4; 0: not even that.
inline int64_t Fp8RowsThatFit(int64_t bytes, int64_t columns) {
  const int64_t most = bytes / (columns + 4 * (columns / kFp8Group));
  return most >= 64 ? most / 64 * 64 : most / 4 * 4;
}

// A factor: values [n, columns] one row after another, and scales [columns / kFp8Group, n]; or
// null, for the bare values.
struct Fp8Factor {
  const void* values = nullptr;
  const float* scales = nullptr;
};

// fp8_products.cu

// The rounded rows of x: a group's largest magnitude becomes 448.
cudaError_t QuantizeToFp8(const Stream& stream, const float* x, int64_t tokens, int64_t columns,
                          void* values, float* scales);
// The same with a scale for each token: scales [tokens].
cudaError_t QuantizeRowsToFp8(const Stream& stream, const float* x, int64_t tokens, int64_t columns,
                              void* values, float* scales);
// Rows [first_row, first_row + rows) of w, which are arranged, as a factor; by rows: scales [rows].
cudaError_t UnpackFp8(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                      Fp8Way way, void* values, float* scales);
// *unlike becomes 1 if a row of w, which is arranged, has scales that differ.
cudaError_t FindUnlikeScales(const Stream& stream, const Matrix& w, unsigned* unlike);
// out[t, r] = out[t, r] * x_scales[t] * w_scales[r] + bias[r]; bias may be null.
cudaError_t FinishFp8(const Stream& stream, float* out, const float* x_scales,
                      const float* w_scales, const float* bias, int64_t tokens, int64_t rows,
                      int64_t out_stride);

}  // namespace tprun::cuda
