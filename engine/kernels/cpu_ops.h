#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/kernels/attention_parts.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// Parts of the CPU kernels, each done by one worker; dispatched to the best instruction set at run
// time. What is not said here is as in kernels.h.

absl::string_view TargetName();

// Rows [begin, end) of MatMul for few tokens: each weight byte is read once per kMatVecTokens
// tokens and decoded in registers. `scratch`: kMatVecScratchRows * w.columns floats, used only for
// formats without a decoder here.
inline constexpr int64_t kMatVecTokens = 4;
inline constexpr int64_t kMatVecScratchRows = 4;
bool MatVecNeedsScratch(const WeightFormat& format);
void MatVecRows(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                float* out, int64_t out_stride, int64_t begin, int64_t end, float* scratch);

// MatMul for many tokens goes over tiles of rows and blocks of columns. x is packed first, so that
// the part of it that a tile meets is contiguous: [column block][tokens][kPackedStride].
inline constexpr int64_t kColumnBlock = 256;  // of x [512 tokens] that is half a MiB: stays in L2
inline constexpr int64_t kPackedStride = kColumnBlock + 16;  // spreads tokens over the cache's sets
inline int64_t PackedFloats(int64_t tokens, int64_t columns) {
  return (columns + kColumnBlock - 1) / kColumnBlock * tokens * kPackedStride;
}
void PackTokens(const float* x, int64_t tokens, int64_t columns, int64_t token_begin,
                int64_t token_end, float* packed);

int64_t MatMulTileRows();
int64_t MatMulScratchFloats();
// Row tiles [tile_begin, tile_end) for tokens [token_begin, token_end).
struct MatMulPart {
  int64_t tile_begin;
  int64_t tile_end;
  int64_t token_begin;
  int64_t token_end;
};
void MatMulTiles(const float* packed, int64_t tokens, const WeightMatrix& w, const float* bias,
                 float* out, int64_t out_stride, const MatMulPart& part, float* scratch);

// The output of a part of attention, or, of a piece, its rows of `partial`: [head_dim] weighted
// values, their maximum and the sum of the weights.
inline int64_t PartialFloats(int64_t head_dim) { return head_dim + 2; }
int64_t AttentionScratchFloats(int64_t head_dim);
void AttendPart(const float* q, int64_t q_stride, const KvCacheView& cache,
                const AttentionShape& shape, const AttentionPart& part, float* out, float* partial,
                float* scratch);
// The output of the queries that the pieces share.
void MergePieces(absl::Span<const AttentionPart> pieces, const KvCacheView& cache,
                 const AttentionShape& shape, const float* partial, float* out);

void RmsNormRow(const float* x, const float* w, int64_t dim, const NormSpec& norm, float* out);
// out[i] = parts[0][offset + i] + ...; out may be one of them at the offset.
void SumParts(absl::Span<const float* const> parts, int64_t offset, int64_t count, float* out);
// residual[i] += that sum; the sum of squares of what it then is.
float AddParts(absl::Span<const float* const> parts, int64_t offset, int64_t count,
               float* residual);
// RmsNormRow of an x whose squares' sum is known.
void ScaleRow(const float* x, float squares, const float* w, int64_t dim, const NormSpec& norm,
              float* out);
// One token; cosines and sines [rope.dims / 2] of its angles.
void RopeToken(float* x, int heads, int head_dim, const RopeSpec& rope, const float* cosines,
               const float* sines);
// out = `count` elements as `format`.
void StoreRounded(const float* in, const WeightFormat& format, uint8_t* out, int64_t count);
void GatedActivation(Activation activation, float* gate, const float* up, int64_t count);
void Add(float* x, const float* y, int64_t count);
void Scale(float* x, int64_t count, float factor);
void Softcap(float* x, int64_t count, float cap);

}  // namespace tprun::cpu
