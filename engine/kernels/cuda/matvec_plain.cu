// Which kernel multiplies a matrix with a few tokens, and the one for any plain matrix.

#include "engine/kernels/cuda/block_ops.h"
#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/matvec.cuh"
#include "engine/kernels/cuda/reduce.cuh"

namespace tprun::cuda {
namespace {

constexpr int kWarps = 8;

// A warp computes a row: its lanes take every 32nd column.
template <class E>
__global__ void __launch_bounds__(kWarps * 32)
    PlainMatVecKernel(Matrix w, const float* bias, const float* x, int tokens, float* out,
                      int64_t out_stride) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int lane = threadIdx.x % 32;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= w.rows) return;
  const auto* weights = static_cast<const typename E::Bits*>(w.data) + row * w.columns;
  float sums[kMostMatVecTokens] = {};
#pragma unroll 4
  for (int64_t c = lane; c < w.columns; c += 32) {
    const float weight = E::Load(weights[c]);
#pragma unroll
    for (int t = 0; t < kMostMatVecTokens; ++t) {
      if (t < tokens) sums[t] += weight * x[t * w.columns + c];
    }
  }
#pragma unroll
  for (int t = 0; t < kMostMatVecTokens; ++t) {
    if (t >= tokens) break;
    const float sum = SumOfWarp(sums[t]);
    if (lane == 0) out[t * out_stride + row] = sum + (bias == nullptr ? 0.0f : bias[row]);
  }
}

template <class E>
cudaError_t LaunchPlain(const Stream& stream, const Matrix& w, const float* bias, const float* x,
                        int tokens, float* out, int64_t out_stride) {
  const Grid grid = {dim3(static_cast<unsigned>((w.rows + kWarps - 1) / kWarps)),
                     dim3(kWarps * 32)};
  return Launch(stream, grid, &PlainMatVecKernel<E>, w, bias, x, tokens, out, out_stride);
}

}  // namespace

cudaError_t PlainMatVec(const Stream& stream, const Matrix& w, const float* bias, const float* x,
                        int tokens, float* out, int64_t out_stride) {
  switch (w.format) {
    case Format::kF32:
      return LaunchPlain<F32Element>(stream, w, bias, x, tokens, out, out_stride);
    case Format::kF16:
      return LaunchPlain<F16Element>(stream, w, bias, x, tokens, out, out_stride);
    case Format::kBF16:
      return LaunchPlain<Bf16Element>(stream, w, bias, x, tokens, out, out_stride);
    default:
      return MatVecBlocks(stream, w, bias, x, tokens, out, out_stride);
  }
}

bool CanTile(const Matrix& w) {
  if (reinterpret_cast<uintptr_t>(w.data) % 16 != 0 || w.columns == 0) return false;
  switch (w.format) {
    case Format::kF32:
      return false;
    case Format::kF16:
    case Format::kBF16:
      return w.columns % 8 == 0;
    default:
      return IsArranged(w.format);
  }
}

cudaError_t TileMatVec(const Stream& stream, Format format, const MatVecTarget* targets, int count,
                       Gate gate, const float* x, int64_t columns, int tokens,
                       const MatVecWorkspace& work) {
  MatVecArguments arguments;
  int tiles = 0;
  for (int i = 0; i < count; ++i) {
    arguments.targets[i] = targets[i];
    arguments.targets[i].first_tile = tiles;
    tiles += static_cast<int>((targets[i].rows + kTileRows - 1) / kTileRows);
  }
  if (gate != Gate::kNone) {
    tiles = static_cast<int>((targets[0].rows + kTileRows / 2 - 1) / (kTileRows / 2));
  }
  arguments.gate = gate;
  arguments.count = count;
  arguments.x = x;
  arguments.columns = columns;
  arguments.tokens = tokens;
  arguments.work = work;
  switch (format) {
    case Format::kF16:
      return LaunchMatVecF16(stream, tiles, arguments);
    case Format::kBF16:
      return LaunchMatVecBf16(stream, tiles, arguments);
    case Format::kQ8_0:
      return LaunchMatVecQ8_0(stream, tiles, arguments);
    case Format::kQ4_0:
      return LaunchMatVecQ4_0(stream, tiles, arguments);
    case Format::kQ4_K:
      return LaunchMatVecQ4_K(stream, tiles, arguments);
    case Format::kQ5_K:
      return LaunchMatVecQ5_K(stream, tiles, arguments);
    case Format::kQ6_K:
      return LaunchMatVecQ6_K(stream, tiles, arguments);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tprun::cuda
