// The layout of matrices, and which kernels a format has.

#include "engine/kernels/cuda/block_formats.cuh"
#include "engine/kernels/cuda/make_format_ops.cuh"
#include "engine/kernels/cuda/quantiser_formats.cuh"
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
  constexpr int kShared = F::kScaleColumns / kBlock;  // blocks of 32 that have one scale
  const int64_t scale = block / kShared;
  const uint8_t* from = blocks + (row * (row_blocks / kShared) + scale) * F::kFileBytes;
  const uint8_t* quants = from + F::kScaleBytes + block % kShared * F::kQuantBytes;
  const F to = F::Find(arranged, rows, columns, row);
  F::Put(const_cast<uint8_t*>(to.quants) + OctetOffset<F>(block, q, row_blocks), quants, q);
  if (q != 0 || block % kShared != 0) return;
  auto* to_scale = const_cast<uint8_t*>(to.Row::Scale(scale));
  for (int i = 0; i < F::kScaleBytes; ++i) to_scale[i] = from[i];
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

// Thread: what one lane of a quad reads of half a super-block, and for the first of a block its
// scales.
template <class F>
__global__ void ArrangeSuperKernel(const uint8_t* blocks, int64_t rows, int64_t columns,
                                   uint8_t* arranged) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t row_chunks = columns / F::kChunkColumns;
  const int64_t index = int64_t{blockIdx.x} * kWeightThreads + threadIdx.x;
  if (index >= rows * row_chunks * 4) return;
  const int64_t row = index / (row_chunks * 4);
  const int chunk = static_cast<int>(index / 4 % row_chunks), q = static_cast<int>(index % 4);
  const uint8_t* from = blocks + (row * row_chunks + chunk) / 2 * F::kBytes;
  const F to = F::Find(arranged, rows, columns, row);
  uint32_t low[kHalfSteps] = {}, high[2] = {};
  for (int step = 0; step < kHalfSteps; ++step) {
    for (int i = 0; i < 8; ++i) {
      const int element = chunk % 2 * F::kChunkColumns + F::ColumnOf(step, q, i);
      const uint32_t quant = F::QuantOf(from, element);
      const int half = i % 2 * 16;
      low[step] |= (quant & 15) << (i / 2 * 4 + half);
      if constexpr (F::kHighWords > 0) {
        constexpr int kStepsOfWord = kHalfSteps / F::kHighWords;
        high[step / kStepsOfWord] |= (quant >> 4)
                                     << ((step % kStepsOfWord * 4 + i / 2) * F::kHighWords + half);
      }
    }
  }
  *const_cast<uint4*>(to.Low(chunk, q)) = make_uint4(low[0], low[1], low[2], low[3]);
  for (int i = 0; i < F::kHighWords; ++i) const_cast<uint32_t*>(to.High(chunk, q))[i] = high[i];
  if (q != 0 || chunk % 2 != 0) return;
  auto* scales = const_cast<uint8_t*>(to.Scales(chunk / 2));
  for (int i = 0; i < 16; ++i) scales[i] = F::ScalesOf(from)[i];
  auto* tail = const_cast<uint8_t*>(to.Tail(chunk / 2));
  for (int i = 0; i < F::kTailBytes; ++i) tail[i] = F::TailOf(from)[i];
}

template <class F>
cudaError_t LaunchArrangeSuper(const Stream& stream, const void* blocks, int64_t rows,
                               int64_t columns, void* arranged) {
  const int64_t parts = rows * (columns / F::kChunkColumns) * 4;
  const Grid grid = {dim3(static_cast<unsigned>(CeilDivide(parts, kWeightThreads))),
                     dim3(kWeightThreads)};
  return Launch(stream, grid, &ArrangeSuperKernel<F>, static_cast<const uint8_t*>(blocks), rows,
                columns, static_cast<uint8_t*>(arranged));
}

}  // namespace

cudaError_t ArrangeBlocks(const Stream& stream, Format format, const void* blocks, int64_t rows,
                          int64_t columns, void* arranged) {
  switch (format) {
    case Format::kQ8_0:
      return LaunchArrange<Q8_0>(stream, blocks, rows, columns, arranged);
    case Format::kQ4_0:
      return LaunchArrange<Q4_0>(stream, blocks, rows, columns, arranged);
    case Format::kMxfp4:
      return LaunchArrange<Mxfp4>(stream, blocks, rows, columns, arranged);
    case Format::kFp8:
      return LaunchArrange<Fp8>(stream, blocks, rows, columns, arranged);
    case Format::kInt4G128:
      return LaunchArrange<Int4<F16Element>>(stream, blocks, rows, columns, arranged);
    case Format::kInt4G128Bf16:
      return LaunchArrange<Int4<Bf16Element>>(stream, blocks, rows, columns, arranged);
    case Format::kQ4_K:
      return LaunchArrangeSuper<Q4_K>(stream, blocks, rows, columns, arranged);
    case Format::kQ5_K:
      return LaunchArrangeSuper<Q5_K>(stream, blocks, rows, columns, arranged);
    case Format::kQ6_K:
      return LaunchArrangeSuper<Q6_K>(stream, blocks, rows, columns, arranged);
    default:
      return cudaErrorInvalidValue;
  }
}

const FormatOps* OpsOf(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return OpsOfArranged<ArrangedReader<Q8_0>, BlockReader<Q8_0InFile>>();
    case Format::kQ4_0:
      return OpsOfArranged<ArrangedReader<Q4_0>, BlockReader<Q4_0InFile>>();
    case Format::kMxfp4:
      return OpsOfArranged<ArrangedReader<Mxfp4>, BlockReader<Mxfp4InFile>>();
    case Format::kFp8:
      return OpsOfArranged<ArrangedReader<Fp8>, BlockReader<Fp8InFile<128>>>();
    case Format::kInt4G128:
      return OpsOfArranged<ArrangedReader<Int4<F16Element>>,
                           BlockReader<IntGroup<4, 128, F16Scale>>>();
    case Format::kInt4G128Bf16:
      return OpsOfArranged<ArrangedReader<Int4<Bf16Element>>,
                           BlockReader<IntGroup<4, 128, Bf16Scale>>>();
    case Format::kQ4_K:
      return OpsOfArranged<SuperReader<Q4_K>, BlockReader<KInFile<Q4_K>>>();
    case Format::kQ5_K:
      return OpsOfArranged<SuperReader<Q5_K>, BlockReader<KInFile<Q5_K>>>();
    case Format::kQ6_K:
      return OpsOfArranged<SuperReader<Q6_K>, BlockReader<Q6_KInFile>>();
    default:
      break;
  }
  for (const auto find : {&PlainOps, &BlockOps, &CodeBookOps}) {
    if (const FormatOps* ops = find(format)) return ops;
  }
  return QuantiserOps(format);
}

cudaError_t Embedding(const Stream& stream, const Matrix& table, const int32_t* ids, int64_t tokens,
                      int64_t first_row, float scale, float* out) {
  return OpsOf(table.format)->embed(stream, table, ids, tokens, first_row, scale, out);
}

cudaError_t DecodeToF16(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                        void* out) {
  return OpsOf(w.format)->decode(stream, w, first_row, rows, out);
}

}  // namespace tprun::cuda
