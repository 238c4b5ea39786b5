#pragma once

#include "engine/kernels/cuda/ops.h"

// The ops of ops.h for the formats of block_formats.cuh; cudaErrorInvalidValue for others.

namespace tprun::cuda {

cudaError_t EmbedBlocks(const Stream& stream, const Matrix& table, const int32_t* ids,
                        int64_t tokens, int64_t first_row, float scale, float* out);
cudaError_t DecodeBlocks(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                         void* out);
cudaError_t MatVecBlocks(const Stream& stream, const Matrix& w, const float* bias, const float* x,
                         int tokens, float* out, int64_t out_stride);

}  // namespace tprun::cuda
