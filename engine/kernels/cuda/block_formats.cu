// Everything that is done with the formats of block_formats.cuh.

#include "engine/kernels/cuda/block_formats.cuh"

#include "engine/kernels/cuda/block_ops.h"
#include "engine/kernels/cuda/reduce.cuh"
#include "engine/kernels/cuda/weights.cuh"

namespace tprun::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kOctet = 8;

// Eight neighbouring elements of a row.
template <class B>
struct BlockReader {
  static constexpr int kElements = kOctet;
  __device__ static __forceinline__ void Read(const Matrix& w, int64_t row, int64_t unit,
                                              float (&values)[kElements]) {
    constexpr int kUnits = B::kElements / kElements;
    const int64_t block = row * (w.columns / B::kElements) + unit / kUnits;
    const uint8_t* at = static_cast<const uint8_t*>(w.data) + block * B::kBytes;
    const int first = static_cast<int>(unit % kUnits) * kElements;
#pragma unroll
    for (int i = 0; i < kElements; ++i) values[i] = B::Value(at, first + i);
  }
};

// A warp computes a row: its lanes take every 32nd octet.
template <class B>
__global__ void __launch_bounds__(kWarps * 32)
    MatVecBlocksKernel(Matrix w, const float* bias, const float* x, int tokens, float* out,
                       int64_t out_stride) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int lane = threadIdx.x % 32;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= w.rows) return;
  float sums[kMostMatVecTokens] = {};
  for (int64_t unit = lane; unit < w.columns / kOctet; unit += 32) {
    float values[kOctet];
    BlockReader<B>::Read(w, row, unit, values);
#pragma unroll
    for (int t = 0; t < kMostMatVecTokens; ++t) {
      if (t >= tokens) break;
      const float* at = x + t * w.columns + unit * kOctet;
#pragma unroll
      for (int i = 0; i < kOctet; ++i) sums[t] += values[i] * at[i];
    }
  }
#pragma unroll
  for (int t = 0; t < kMostMatVecTokens; ++t) {
    if (t >= tokens) break;
    const float sum = SumOfWarp(sums[t]);
    if (lane == 0) out[t * out_stride + row] = sum + (bias == nullptr ? 0.0f : bias[row]);
  }
}

// Calls launch(B()) for the format's struct.
template <class Launch>
cudaError_t WithBlocksOf(Format format, const Launch& launch) {
  switch (format) {
    case Format::kQ4_1:
      return launch(Q4_1());
    case Format::kQ5_0:
      return launch(Q5_0());
    case Format::kQ5_1:
      return launch(Q5_1());
    case Format::kQ2_K:
      return launch(Q2_K());
    case Format::kQ3_K:
      return launch(Q3_K());
    case Format::kIq4Nl:
      return launch(Iq4Nl());
    case Format::kIq4Xs:
      return launch(Iq4Xs());
    case Format::kMxfp4:
      return launch(Mxfp4());
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t EmbedBlocks(const Stream& stream, const Matrix& table, const int32_t* ids,
                        int64_t tokens, int64_t first_row, float scale, float* out) {
  return WithBlocksOf(table.format, [&](auto blocks) {
    return LaunchEmbedding<BlockReader<decltype(blocks)>>(stream, table, ids, tokens, first_row,
                                                          scale, out);
  });
}

cudaError_t DecodeBlocks(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                         void* out) {
  return WithBlocksOf(w.format, [&](auto blocks) {
    return LaunchDecode<BlockReader<decltype(blocks)>>(stream, w, first_row, rows, out);
  });
}

cudaError_t MatVecBlocks(const Stream& stream, const Matrix& w, const float* bias, const float* x,
                         int tokens, float* out, int64_t out_stride) {
  const Grid grid = {dim3(static_cast<unsigned>(CeilDivide(w.rows, kWarps))), dim3(kWarps * 32)};
  return WithBlocksOf(w.format, [&](auto blocks) {
    return Launch(stream, grid, &MatVecBlocksKernel<decltype(blocks)>, w, bias, x, tokens, out,
                  out_stride);
  });
}

}  // namespace tprun::cuda
