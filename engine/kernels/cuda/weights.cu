// Matrices other than through products: their layout, rows of the embedding, decoding.

#include "engine/kernels/cuda/block_ops.h"
#include "engine/kernels/cuda/weights.cuh"

namespace tprun::cuda {
namespace {

// Thread: eight elements (an octet) of a block, and for the first of a block its scale.
template <class F>
__global__ void ArrangeKernel(const uint8_t* blocks, int64_t rows, int64_t columns,
                              uint8_t* arranged) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t row_blocks = columns / kBlock;
  const int64_t index = int64_t{blockIdx.x} * kWeightThreads + threadIdx.x;
  if (index >= rows * row_blocks * 4) return;
  const int64_t row = index / (row_blocks * 4), block = index / 4 % row_blocks;
  const int q = static_cast<int>(index % 4);
  const uint8_t* from = blocks + (row * row_blocks + block) * (F::kQuantBytes + 2);
  const F to = F::Find(arranged, rows, columns, row);
  F::Put(const_cast<uint8_t*>(to.quants) + OctetOffset<F>(block, q, row_blocks), from + 2, q);
  if (q != 0) return;
  uint8_t* scale = const_cast<uint8_t*>(to.BlockRow<F::kQuantBytes>::Scale(block));
  scale[0] = from[0];
  scale[1] = from[1];
}

template <class F>
cudaError_t LaunchArrange(const Stream& stream, const void* blocks, int64_t rows, int64_t columns,
                          void* arranged) {
  const int64_t octets = rows * (columns / kBlock) * 4;
  const Grid grid = {dim3(static_cast<unsigned>(CeilDivide(octets, kWeightThreads))),
                     dim3(kWeightThreads)};
  return Launch(stream, grid, &ArrangeKernel<F>, static_cast<const uint8_t*>(blocks), rows, columns,
                static_cast<uint8_t*>(arranged));
}

}  // namespace

cudaError_t ArrangeBlocks(const Stream& stream, Format format, const void* blocks, int64_t rows,
                          int64_t columns, void* arranged) {
  switch (format) {
    case Format::kQ8_0:
      return LaunchArrange<Q8_0>(stream, blocks, rows, columns, arranged);
    case Format::kQ4_0:
      return LaunchArrange<Q4_0>(stream, blocks, rows, columns, arranged);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t Embedding(const Stream& stream, const Matrix& table, const int32_t* ids, int64_t tokens,
                      int64_t first_row, float scale, float* out) {
  const auto launch = [&](auto reader) {
    return LaunchEmbedding<decltype(reader)>(stream, table, ids, tokens, first_row, scale, out);
  };
  switch (table.format) {
    case Format::kF32:
      return launch(PlainReader<F32Element>());
    case Format::kF16:
      return launch(PlainReader<F16Element>());
    case Format::kBF16:
      return launch(PlainReader<Bf16Element>());
    case Format::kQ8_0:
      return launch(ArrangedReader<Q8_0>());
    case Format::kQ4_0:
      return launch(ArrangedReader<Q4_0>());
    default:
      return EmbedBlocks(stream, table, ids, tokens, first_row, scale, out);
  }
}

cudaError_t DecodeToF16(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                        void* out) {
  switch (w.format) {
    case Format::kQ8_0:
      return LaunchDecode<ArrangedReader<Q8_0>>(stream, w, first_row, rows, out);
    case Format::kQ4_0:
      return LaunchDecode<ArrangedReader<Q4_0>>(stream, w, first_row, rows, out);
    default:
      return DecodeBlocks(stream, w, first_row, rows, out);
  }
}

}  // namespace tprun::cuda
