#include "engine/kernels/cuda/activations.cuh"
#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/reduce.cuh"

namespace tprun::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void GatedActivationKernel(Gate kind, float* gate, const float* up, int64_t count) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    gate[i] = Gated(kind, gate[i], up[i]);
  }
}

__global__ void AddKernel(float* x, const float* y, int64_t count) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    x[i] += y[i];
  }
}

__global__ void SoftcapKernel(float* x, int64_t count, float cap) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    x[i] = cap * tanhf(x[i] / cap);
  }
}

// Block: part of a row. Nothing to do is common: no token needed a scale, and there is no bias.
__global__ void FinishRowsKernel(float* x, const float* scales, const float* bias, int64_t columns,
                                 int64_t stride) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const float scale = scales == nullptr ? 1.0f : scales[blockIdx.x];
  if (scale == 1.0f && bias == nullptr) return;
  float* row = x + blockIdx.x * stride;
  const int64_t step = int64_t{gridDim.y} * kThreads;
  for (int64_t i = int64_t{blockIdx.y} * kThreads + threadIdx.x; i < columns; i += step) {
    row[i] = row[i] * scale + (bias == nullptr ? 0.0f : bias[i]);
  }
}

__global__ void CastToBf16Kernel(const float* x, int64_t count, uint16_t* out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    out[i] = Bf16Element::Store(x[i]);
  }
}

// A row whose largest magnitude is in [2^-4, 2^15) fits f16 with few subnormals; others get a power
// of two that brings it to [1, 2).
__global__ void __launch_bounds__(kThreads)
    CastRowsToF16Kernel(const float* x, int64_t columns, uint16_t* out, float* scales) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const float* row = x + blockIdx.x * columns;
  float largest = 0;
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) largest = fmaxf(largest, fabsf(row[i]));
  largest = MaxOfBlock(largest);
  float up = 1, down = 1;
  if (largest > 0 && largest <= 3.4028235e38f && (largest < 0.0625f || largest >= 32768.0f)) {
    // 2^-exponent and 2^exponent, both normal numbers.
    int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
    exponent = exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
    up = __uint_as_float(static_cast<uint32_t>(127 - exponent) << 23);
    down = __uint_as_float(static_cast<uint32_t>(127 + exponent) << 23);
  }
  uint16_t* to = out + blockIdx.x * columns;
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) to[i] = F16Element::Store(row[i] * up);
  if (threadIdx.x == 0) scales[blockIdx.x] = down;
}

Grid GridFor(const Stream& stream, int64_t count) {
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  const int64_t most = int64_t{32} * stream.multiprocessors;
  return {dim3(static_cast<unsigned>(blocks < most ? blocks : most)), dim3(kThreads)};
}

}  // namespace

cudaError_t GatedActivation(const Stream& stream, Gate gate_kind, float* gate, const float* up,
                            int64_t count) {
  return Launch(stream, GridFor(stream, count), &GatedActivationKernel, gate_kind, gate, up, count);
}

cudaError_t Add(const Stream& stream, float* x, const float* y, int64_t count) {
  return Launch(stream, GridFor(stream, count), &AddKernel, x, y, count);
}

cudaError_t AddBias(const Stream& stream, float* x, const float* bias, int64_t tokens, int64_t dim,
                    int64_t stride) {
  return FinishRows(stream, x, nullptr, bias, tokens, dim, stride);
}

cudaError_t Softcap(const Stream& stream, float* x, int64_t count, float cap) {
  return Launch(stream, GridFor(stream, count), &SoftcapKernel, x, count, cap);
}

cudaError_t CastToBf16(const Stream& stream, const float* x, int64_t count, void* out) {
  return Launch(stream, GridFor(stream, count), &CastToBf16Kernel, x, count,
                static_cast<uint16_t*>(out));
}

cudaError_t CastRowsToF16(const Stream& stream, const float* x, int64_t rows, int64_t columns,
                          void* out, float* scales) {
  const Grid grid = {dim3(static_cast<unsigned>(rows)), dim3(kThreads)};
  return Launch(stream, grid, &CastRowsToF16Kernel, x, columns, static_cast<uint16_t*>(out),
                scales);
}

cudaError_t FinishRows(const Stream& stream, float* x, const float* scales, const float* bias,
                       int64_t rows, int64_t columns, int64_t stride) {
  const int64_t parts = (columns + 4 * kThreads - 1) / (4 * kThreads);
  const Grid grid = {dim3(static_cast<unsigned>(rows), static_cast<unsigned>(parts)),
                     dim3(kThreads)};
  return Launch(stream, grid, &FinishRowsKernel, x, scales, bias, columns, stride);
}

}  // namespace tprun::cuda
