#include "engine/kernels/cuda/fp8_products.h"

#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/packed_formats.cuh"
#include "engine/kernels/cuda/reduce.cuh"

namespace tprun::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// The largest magnitude becomes 448. What is smaller than 1e-30 is nothing beside any other, and
// its inverse may overflow.
struct Rounding {
  __device__ explicit Rounding(float largest)
      : up(largest > 1e-30f ? 448.0f / largest : 1.0f),
        scale(largest > 1e-30f ? largest / 448.0f : 1.0f) {}
  __device__ uint32_t Four(const float* v) const {
    uint32_t four = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) four |= ToE4M3(v[i] * up) << (8 * i);
    return four;
  }
  const float up, scale;
};

// Warp: a group of a token, four values to a lane.
__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(const float* x, int64_t tokens, int64_t columns, uint32_t* values,
                   float* scales) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int lane = threadIdx.x % 32;
  const int64_t groups = columns / kFp8Group;
  const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (index >= tokens * groups) return;
  const int64_t at = index * kFp8Group + lane * 4;
  float v[4];
  float largest = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[i] = x[at + i];
    largest = fmaxf(largest, fabsf(v[i]));
  }
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, bits));
  }
  const Rounding rounding(largest);
  values[at / 4] = rounding.Four(v);
  if (lane == 0) scales[index % groups * tokens + index / groups] = rounding.scale;
}

// Block: a token.
__global__ void __launch_bounds__(kThreads)
    QuantizeRowsKernel(const float* x, int64_t columns, uint32_t* values, float* scales) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const float* row = x + blockIdx.x * columns;
  uint32_t* out = values + blockIdx.x * (columns / 4);
  float largest = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    largest = fmaxf(largest, fabsf(row[c]));
  }
  const Rounding rounding(MaxOfBlock(largest));
  for (int64_t i = threadIdx.x; i < columns / 4; i += kThreads) out[i] = rounding.Four(row + 4 * i);
  if (threadIdx.x == 0) scales[blockIdx.x] = rounding.scale;
}

// Thread: a row.
__global__ void __launch_bounds__(kThreads) UnlikeScalesKernel(Matrix w, unsigned* unlike) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= w.rows) return;
  const Fp8 at = Fp8::Find(w.data, w.rows, w.columns, row);
  const float first = *reinterpret_cast<const float*>(at.Row::Scale(0));
  for (int64_t group = 1; group < w.columns / kFp8Group; ++group) {
    if (*reinterpret_cast<const float*>(at.Row::Scale(group)) != first) *unlike = 1;
  }
}

// Thread: an element of out.
__global__ void __launch_bounds__(kThreads)
    FinishFp8Kernel(float* out, const float* x_scales, const float* w_scales, const float* bias,
                    int64_t tokens, int64_t rows, int64_t out_stride) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t token = index / rows, row = index % rows;
  if (token >= tokens) return;
  float& value = out[token * out_stride + row];
  value = value * (x_scales[token] * w_scales[row]) + (bias == nullptr ? 0.0f : bias[row]);
}

// Thread: an octet.
__global__ void __launch_bounds__(kThreads)
    UnpackKernel(Matrix w, int64_t first_row, int64_t rows, int64_t groups, uint2* values,
                 float* scales) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t row_octets = w.columns / 8;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= rows * row_octets) return;
  const int64_t row = index / row_octets, octet = index % row_octets, block = octet / 4;
  const Fp8 at = Fp8::Find(w.data, w.rows, w.columns, first_row + row);
  const uint8_t* from =
      at.quants + OctetOffset<Fp8>(block, static_cast<int>(octet % 4), w.columns / kBlock);
  const uint2 bytes = *reinterpret_cast<const uint2*>(from);
  uint32_t words[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t word = ByteOfOctet(i) < 4 ? bytes.x : bytes.y;
    words[i / 4] |= (word >> (8 * (ByteOfOctet(i) % 4)) & 255) << (8 * (i % 4));
  }
  values[index] = make_uint2(words[0], words[1]);
  if (octet % (kFp8Group / 8) != 0) return;
  const int64_t group = octet / (kFp8Group / 8);
  if (group >= groups) return;
  scales[group * rows + row] = *reinterpret_cast<const float*>(at.Row::Scale(group));
}

unsigned BlocksFor(int64_t count, int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace

cudaError_t QuantizeToFp8(const Stream& stream, const float* x, int64_t tokens, int64_t columns,
                          void* values, float* scales) {
  const Grid grid = {dim3(BlocksFor(tokens * (columns / kFp8Group), kWarps)), dim3(kThreads)};
  return Launch(stream, grid, &QuantizeKernel, x, tokens, columns, static_cast<uint32_t*>(values),
                scales);
}

cudaError_t QuantizeRowsToFp8(const Stream& stream, const float* x, int64_t tokens, int64_t columns,
                              void* values, float* scales) {
  const Grid grid = {dim3(BlocksFor(tokens, 1)), dim3(kThreads)};
  return Launch(stream, grid, &QuantizeRowsKernel, x, columns, static_cast<uint32_t*>(values),
                scales);
}

cudaError_t UnpackFp8(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                      Fp8Way way, void* values, float* scales) {
  const Grid grid = {dim3(BlocksFor(rows * (w.columns / 8), kThreads)), dim3(kThreads)};
  const int64_t groups = way == Fp8Way::kRows ? 1 : w.columns / kFp8Group;
  return Launch(stream, grid, &UnpackKernel, w, first_row, rows, groups,
                static_cast<uint2*>(values), scales);
}

cudaError_t FindUnlikeScales(const Stream& stream, const Matrix& w, unsigned* unlike) {
  const Grid grid = {dim3(BlocksFor(w.rows, kThreads)), dim3(kThreads)};
  return Launch(stream, grid, &UnlikeScalesKernel, w, unlike);
}

cudaError_t FinishFp8(const Stream& stream, float* out, const float* x_scales,
                      const float* w_scales, const float* bias, int64_t tokens, int64_t rows,
                      int64_t out_stride) {
  const Grid grid = {dim3(BlocksFor(tokens * rows, kThreads)), dim3(kThreads)};
  return Launch(stream, grid, &FinishFp8Kernel, out, x_scales, w_scales, bias, tokens, rows,
                out_stride);
}

}  // namespace tprun::cuda
