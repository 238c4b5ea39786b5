#pragma once

#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/k_formats.cuh"
#include "engine/kernels/cuda/ops.h"

// Rows of the embedding, and matrices decoded for cuBLASLt, by readers of the formats.

namespace tprun::cuda {

constexpr int kWeightThreads = 256;

inline int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How a thread reads a few neighbouring elements of a row.
template <class E>
struct PlainReader {
  static constexpr int kElements = 1;
  __device__ static __forceinline__ void Read(const Matrix& w, int64_t row, int64_t unit,
                                              float (&values)[kElements]) {
    const auto* data = static_cast<const typename E::Bits*>(w.data);
    values[0] = E::Load(data[row * w.columns + unit]);
  }
};

// Blocks in the kernels' own order.
template <class F>
struct ArrangedReader {
  static constexpr int kElements = 8;
  __device__ static __forceinline__ void Read(const Matrix& w, int64_t row, int64_t unit,
                                              float (&values)[kElements]) {
    const int64_t block = unit / 4, blocks = w.columns / kBlock;
    const F at = F::Find(w.data, w.rows, w.columns, row);
    const uint8_t* quants = at.quants + OctetOffset<F>(block, static_cast<int>(unit % 4), blocks);
    uint32_t words[F::kLaneBytes / 4];
    for (int i = 0; i < F::kLaneBytes / 4; ++i) {
      words[i] = reinterpret_cast<const uint32_t*>(quants)[i];
    }
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      values[i] = at.Value(block, reinterpret_cast<const uint8_t*>(words), i);
    }
  }
};

template <class F>
struct SuperReader {
  static constexpr int kElements = 8;
  __device__ static __forceinline__ void Read(const Matrix& w, int64_t row, int64_t unit,
                                              float (&values)[kElements]) {
    const F at = F::Find(w.data, w.rows, w.columns, row);
    const int chunk = static_cast<int>(unit / (F::kChunkColumns / kElements));
    const int first = static_cast<int>(unit % (F::kChunkColumns / kElements)) * kElements;
    const int step = first / kStepColumns;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const int column = first + i;
      const int quant = StoredQuant(at, chunk, F::LaneOf(column), step, F::IndexOf(column));
      values[i] = at.Value(chunk, column, quant);
    }
  }
};

template <class Reader>
__global__ void EmbeddingKernel(Matrix table, const int32_t* ids, int64_t first_row, float scale,
                                float* out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t unit = int64_t{blockIdx.y} * kWeightThreads + threadIdx.x;
  if (unit >= table.columns / Reader::kElements) return;
  const int64_t row = ids[blockIdx.x] - first_row;
  float values[Reader::kElements] = {};
  if (row >= 0 && row < table.rows) Reader::Read(table, row, unit, values);
  float* to = out + blockIdx.x * table.columns + unit * Reader::kElements;
#pragma unroll
  for (int i = 0; i < Reader::kElements; ++i) to[i] = values[i] * scale;
}

template <class Reader>
cudaError_t LaunchEmbedding(const Stream& stream, const Matrix& table, const int32_t* ids,
                            int64_t tokens, int64_t first_row, float scale, float* out) {
  const int64_t units = table.columns / Reader::kElements;
  const Grid grid = {
      dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(CeilDivide(units, kWeightThreads))),
      dim3(kWeightThreads)};
  return Launch(stream, grid, &EmbeddingKernel<Reader>, table, ids, first_row, scale, out);
}

template <class Reader>
__global__ void DecodeKernel(Matrix w, int64_t first_row, int64_t units, uint4* out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t row_units = w.columns / Reader::kElements;
  const int64_t index = int64_t{blockIdx.x} * kWeightThreads + threadIdx.x;
  if (index >= units) return;
  float v[Reader::kElements];
  Reader::Read(w, first_row + index / row_units, index % row_units, v);
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = F16Element::Store(v[2 * i]) | uint32_t{F16Element::Store(v[2 * i + 1])} << 16;
  }
  out[index] = make_uint4(words[0], words[1], words[2], words[3]);
}

template <class Reader>
cudaError_t LaunchDecode(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                         void* out) {
  const int64_t units = rows * (w.columns / Reader::kElements);
  const Grid grid = {dim3(static_cast<unsigned>(CeilDivide(units, kWeightThreads))),
                     dim3(kWeightThreads)};
  return Launch(stream, grid, &DecodeKernel<Reader>, w, first_row, units, static_cast<uint4*>(out));
}

}  // namespace tprun::cuda
