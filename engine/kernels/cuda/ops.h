#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/sampling.h"

// The kernels of cuda_kernels.cc, one function per launch. Everything is on the device; arguments
// have been checked. The formulas are those of engine/kernels/kernels.h. Plain types only: nvcc is
// slow on more.

namespace tprun::cuda {

enum class Format {
  kF32,
  kF16,
  kBF16,
  // Arranged by ArrangeBlocks.
  kQ8_0,
  kQ4_0,
  kMxfp4,
  kFp8,
  kInt4G128,
  kInt4G128Bf16,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  // As in the checkpoint.
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ2_K,
  kQ3_K,
  kIq4Nl,
  kIq4Xs,
  kIq1S,
  kIq1M,
  kIq2Xxs,
  kIq2Xs,
  kIq2S,
  kIq3Xxs,
  kIq3S,
  kTq1,
  kTq2,
  kFp8B32,
  kNf4,
  kFp4,
  kBnbInt8,
  // Integers in groups (engine/format/int_groups.h), in the order of their list.
  kInt4G32,
  kInt4G64,
  kInt4G32Bf16,
  kInt4G64Bf16,
  kInt8G32,
  kInt8G128,
  kInt8G32Bf16,
  kInt8G128Bf16,
  kInt8G32F32,
  kInt8G128F32,
};
inline bool IsPlain(Format format) { return format <= Format::kBF16; }
inline bool IsArranged(Format format) { return format >= Format::kQ8_0 && format <= Format::kQ6_K; }
enum class Element { kF32, kF16, kBF16, kE4M3, kQ8_0 };  // the last two of a KV cache only

// A weight matrix [rows, columns].
struct Matrix {
  const void* data = nullptr;
  Format format = Format::kF32;
  int64_t rows = 0;
  int64_t columns = 0;
};

// act(gate) * up; for kClampedSwiGlu engine/model/model_spec.h.
enum class Gate { kNone, kSilu, kGeluTanh, kClampedSwiGlu };

// weights.cu

// The layout that the kernels read blocks in: formats.cuh, packed_formats.cuh and k_formats.cuh. In
// groups of 8 rows (the last group may have
// fewer): the quants of each row, then the scales of each row, so that all quants are aligned to 16
// bytes; within a row the order of formats.cuh, in which the lanes of a warp read 16 bytes each.
// Writes the `rows` rows at `blocks` (in the checkpoint's layout, a multiple of 8 rows but for the
// last part of a matrix) to `arranged`, as many bytes.
cudaError_t ArrangeBlocks(const Stream& stream, Format format, const void* blocks, int64_t rows,
                          int64_t columns, void* arranged);

cudaError_t Embedding(const Stream& stream, const Matrix& table, const int32_t* ids, int64_t tokens,
                      int64_t first_row, float scale, float* out);

// Rows [first_row, first_row + rows) as f16, dense.
cudaError_t DecodeToF16(const Stream& stream, const Matrix& w, int64_t first_row, int64_t rows,
                        void* out);

// matvec*.cu

constexpr int kMostMatVecTokens = 8;
constexpr int kMostProjections = 3;

// A product with the x of a launch: out[t, r] with `out_stride` floats from token to token.
struct MatVecTarget {
  const void* data = nullptr;
  const float* bias = nullptr;
  float* out = nullptr;
  int64_t rows = 0;
  int64_t out_stride = 0;
  int first_tile = 0;  // set by MatVec
};

// Memory that blocks use to add up their parts of a row.
struct MatVecWorkspace {
  float* partial = nullptr;     // kMatVecPartialFloats
  unsigned* tickets = nullptr;  // kMatVecTickets, zero before and after each launch
};
constexpr int kMatVecTickets = 1024;
constexpr int64_t kMatVecPartialFloats = int64_t{kMatVecTickets} * kMostMatVecTokens * 32;

// Whether TileMatVec can read it: rows at 16 bytes.
bool CanTile(const Matrix& w);

// x times up to kMostProjections matrices of one format and width, for up to kMostMatVecTokens
// tokens, each weight read once. x [tokens, columns], at 16 bytes, is split into three bf16 terms,
// exactly; products and sums are in f32 in the tensor cores. With a gate the targets are gate and
// up of as many rows, and act(x gate) * (x up) goes to the first one's output. Of a stack
// (stack.h) all this for each matrix.
struct MatVecArguments;
cudaError_t TileMatVec(const Stream& stream, Format format, MatVecArguments arguments);

// The same for a matrix of any format that is not arranged, or a gate's two, in f32.
cudaError_t RowMatVec(const Stream& stream, Format format, const MatVecArguments& arguments);

// heads.cu

// Row (t, h) at data + t * token_stride + h * head_stride.
struct HeadRows {
  float* data = nullptr;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};
cudaError_t CopyHeads(const Stream& stream, const HeadRows& x, int64_t tokens, int heads,
                      int64_t count, const HeadRows& out);
// out[t, h, c] = sum over r of x[t, h, r] w_h[r, c]; w, of all heads, is as in the checkpoint.
cudaError_t TransposedHeads(const Stream& stream, const Matrix& w, const HeadRows& x,
                            int64_t tokens, int heads, const HeadRows& out);

// norm.cu

struct NormRows {
  const float* weight = nullptr;
  int64_t dim = 0;
  float eps = 0;
  bool unit_offset = false;
};

// Rows (t, h) at x + t * stride + h * dim; out has the same strides.
cudaError_t RmsNorm(const Stream& stream, const float* x, int64_t tokens, int64_t heads,
                    int64_t stride, const NormRows& norm, float* out);
// residual += y, out = norm of it; dense.
cudaError_t AddRmsNorm(const Stream& stream, float* residual, const float* y, int64_t tokens,
                       const NormRows& norm, float* out);

// elementwise.cu

cudaError_t GatedActivation(const Stream& stream, Gate gate_kind, float* gate, const float* up,
                            int64_t count);
cudaError_t Add(const Stream& stream, float* x, const float* y, int64_t count);
// x[t, i] += bias[i], rows `stride` floats apart.
cudaError_t AddBias(const Stream& stream, float* x, const float* bias, int64_t tokens, int64_t dim,
                    int64_t stride);
cudaError_t Softcap(const Stream& stream, float* x, int64_t count, float cap);

// f32 rows as bf16.
cudaError_t CastToBf16(const Stream& stream, const float* x, int64_t count, void* out);
// Rows as f16, each times a power of two that keeps it in range; scales[t] undoes it.
cudaError_t CastRowsToF16(const Stream& stream, const float* x, int64_t rows, int64_t columns,
                          void* out, float* scales);
// x[t, i] = x[t, i] * scales[t] + bias[i], rows `stride` floats apart; scales and bias may be null.
cudaError_t FinishRows(const Stream& stream, float* x, const float* scales, const float* bias,
                       int64_t rows, int64_t columns, int64_t stride);

// argmax.cu

struct Best {  // as BestLogit
  float logit;
  int32_t id;
};
cudaError_t ArgMax(const Stream& stream, const float* x, int64_t rows, int64_t columns,
                   int32_t first_id, Best* best);

// sample.cu

// chosen[r].id = the token drawn from row r of logits [rows, vocab], which are penalised in place.
cudaError_t Sample(const Stream& stream, float* logits, const SampleRequest* requests, int64_t rows,
                   int64_t vocab, const uint32_t* seen, Best* chosen);
cudaError_t MarkSeen(const Stream& stream, const int32_t* ids, const int32_t* sequences,
                     int64_t tokens, int64_t vocab, uint32_t* seen);

// rope.cu

struct RopeArguments {
  int half = 0;  // pairs of a head
  bool interleaved = false;
  const float* inverse_frequencies = nullptr;
  float magnitude = 1;
};

struct CacheArguments {
  void* keys = nullptr;
  void* values = nullptr;
  Element element = Element::kF32;
  int64_t capacity = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t sequence_stride = 0;  // bytes
};

// The tokens of a step, on the device.
struct Tokens {
  int64_t count = 0;
  const int32_t* sequences = nullptr;
  const int32_t* positions = nullptr;
};

cudaError_t Rope(const Stream& stream, float* x, const Tokens& tokens, int heads, int head_dim,
                 int64_t stride, const RopeArguments& rope);
// q is rotated in place; k, if rope.half > 0 rotated on the way, and v go to the cache. q may be
// null.
cudaError_t RopeStoreKv(const Stream& stream, float* q, int query_heads, const float* k,
                        const float* v, int64_t stride, const Tokens& tokens,
                        const RopeArguments& rope, const CacheArguments& cache);

// attention*.cu

struct AttentionArguments {
  const float* q = nullptr;
  int64_t q_stride = 0;
  float* out = nullptr;
  Tokens tokens;
  CacheArguments cache;
  int query_heads = 0;
  int first_query_head = 0;
  int first_kv_head = 0;
  int queries_per_kv_head = 1;
  float scale = 1;
  float softcap = 0;
  int64_t window = 0;
  const float* sinks = nullptr;  // [query_heads], or none
  // Each sequence is cut into `splits` parts, which are put together by whoever comes last.
  int splits = 1;
  float* partial = nullptr;     // [tokens, query_heads, splits, head_dim + 2], if splits > 1
  unsigned* tickets = nullptr;  // [tokens, groups of heads], zero before and after
};
constexpr int kMostHeadDim = 768;  // tiles of tokens take up to 576
constexpr int kAttentionTickets = 4096;
constexpr int64_t kAttentionPartialFloats = int64_t{4} << 20;

// Some tokens of one sequence, on the host.
struct Run {
  int sequence = 0;
  int64_t first_position = 0;
  int64_t tokens = 0;
};

// `runs` are the batch's tokens in order. Splits are chosen here. Runs of a few tokens read their
// sequence and position on the device only, so that a captured launch serves every step.
cudaError_t Attention(const Stream& stream, const AttentionArguments& arguments, const Run* runs,
                      int count);

}  // namespace tprun::cuda
