#pragma once

#include "engine/kernels/cuda/matvec.h"
#include "engine/kernels/cuda/ops.h"

// What is done with a format's matrices apart from TileMatVec, as launches of kernels for it.

namespace tprun::cuda {

struct FormatOps {
  cudaError_t (*embed)(const Stream&, const Matrix& table, const int32_t* ids, int64_t tokens,
                       int64_t first_row, float scale, float* out);
  // To f16; none for plain formats.
  cudaError_t (*decode)(const Stream&, const Matrix&, int64_t first_row, int64_t rows, void* out);
  // By rows; none for arranged formats.
  cudaError_t (*multiply)(const Stream&, Format, const MatVecArguments&);
  cudaError_t (*transposed)(const Stream&, const Matrix&, const HeadRows& x, int64_t tokens,
                            int heads, const HeadRows& out);
};

// nullptr: the format is another file's.
const FormatOps* OpsOf(Format format);         // weights.cu: of any
const FormatOps* PlainOps(Format format);      // plain_formats.cu
const FormatOps* BlockOps(Format format);      // block_formats.cu
const FormatOps* CodeBookOps(Format format);   // code_book_formats.cu
const FormatOps* QuantiserOps(Format format);  // quantiser_formats.cu

}  // namespace tprun::cuda
