// Products of many tokens with a matrix: bound by arithmetic. A tile of weight rows is decoded to
// f32 once per block of columns, turned so that its rows lie along a vector, and met with all
// tokens while it is in L1 (the blocking of Goto & van de Geijn, ACM TOMS 34, 2008).

#include <algorithm>
#include <type_traits>

#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/matmul_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/gemm_tile-inl.h"
#include "engine/kernels/quant_blocks-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kDecodedFloats = kTileN * kPackedStride;
constexpr int64_t kTurnedFloats = kColumnBlock * kTileN;

int64_t MatMulTileRows() { return kTileN; }
int64_t MatMulScratchFloats() { return kDecodedFloats + kTurnedFloats + kTileM * kTileN; }

HWY_NOINLINE void DecodeRow(const WeightFormat& format, const uint8_t* in, int64_t count,
                            float* out) {
  if (&format == &kF32Format) return Widen<F32Element>(in, count, out);
  if (&format == &kF16Format) return Widen<F16Element>(in, count, out);
  if (&format == &kBF16Format) return Widen<BF16Element>(in, count, out);
  if (&format == &kQ8_0Format) return DecodeBlocks<Q8_0Block>(in, count, out);
  if (&format == &kQ4_0Format) return DecodeBlocks<Q4_0Block>(in, count, out);
  format.dequantize(in, out, count);
}

// turned [count, kTileN] = rows [row, row + kTileN) of w, columns [column, column + count); rows
// past the end are zero.
HWY_NOINLINE void DecodeTile(const WeightMatrix& w, int64_t row, int64_t column, int64_t count,
                             float* decoded, float* turned) {
  const int64_t rows = std::min<int64_t>(kTileN, w.rows - row);
  const uint8_t* in = static_cast<const uint8_t*>(w.data) + row * w.format->Bytes(w.columns) +
                      w.format->Bytes(column);
  for (int64_t r = 0; r < kTileN; ++r) {
    float* out = decoded + r * kPackedStride;
    if (r < rows) {
      DecodeRow(*w.format, in + r * w.format->Bytes(w.columns), count, out);
    } else {
      std::fill(out, out + count, 0.0f);
    }
  }
  Transpose(decoded, kPackedStride, kTileN, count, turned, kTileN);
}

HWY_NOINLINE void MultiplyTile(const float* packed, const MatMulPart& part, int64_t count,
                               const float* turned, float* out, int64_t out_stride) {
  Gemm(part.token_end - part.token_begin, kTileN, count, packed + part.token_begin * kPackedStride,
       kPackedStride, turned, kTileN, out + part.token_begin * out_stride, out_stride);
}

// The last tile, where out has fewer than kTileN columns left: through a whole tile in scratch.
HWY_NOINLINE void MultiplyLastTile(const float* packed, const MatMulPart& part, int64_t count,
                                   const float* turned, int64_t rows, float* out,
                                   int64_t out_stride, float* tile) {
  for (int64_t token = part.token_begin; token < part.token_end; token += kTileM) {
    const int64_t tokens = std::min<int64_t>(kTileM, part.token_end - token);
    for (int64_t t = 0; t < tokens; ++t) {
      std::fill(tile + t * kTileN, tile + (t + 1) * kTileN, 0.0f);
      std::copy_n(out + (token + t) * out_stride, rows, tile + t * kTileN);
    }
    MultiplyTile(packed, {0, 1, token, token + tokens}, count, turned, tile - token * kTileN,
                 kTileN);
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(tile + t * kTileN, rows, out + (token + t) * out_stride);
    }
  }
}

void MatMulTiles(const float* packed, int64_t tokens, const WeightMatrix& w, const float* bias,
                 float* out, int64_t out_stride, const MatMulPart& part, float* scratch) {
  float* decoded = scratch;
  float* turned = decoded + kDecodedFloats;
  float* last = turned + kTurnedFloats;
  FillWithBias(w, bias, part, out, out_stride);
  for (int64_t column = 0; column < w.columns; column += kColumnBlock) {
    const int64_t count = std::min(kColumnBlock, w.columns - column);
    const float* block = packed + column / kColumnBlock * tokens * kPackedStride;
    for (int64_t row = part.tile_begin * kTileN;
         row < std::min<int64_t>(part.tile_end * kTileN, w.rows); row += kTileN) {
      DecodeTile(w, row, column, count, decoded, turned);
      if (row + kTileN <= w.rows) {
        MultiplyTile(block, part, count, turned, out + row, out_stride);
      } else {
        MultiplyLastTile(block, part, count, turned, w.rows - row, out + row, out_stride, last);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(MatMulTileRows);
HWY_EXPORT(MatMulScratchFloats);
HWY_EXPORT(MatMulTiles);

int64_t MatMulTileRows() { return HWY_DYNAMIC_DISPATCH(MatMulTileRows)(); }
int64_t MatMulScratchFloats() { return HWY_DYNAMIC_DISPATCH(MatMulScratchFloats)(); }
void MatMulTiles(const float* packed, int64_t tokens, const WeightMatrix& w, const float* bias,
                 float* out, int64_t out_stride, const MatMulPart& part, float* scratch) {
  HWY_DYNAMIC_DISPATCH(MatMulTiles)
  (packed, tokens, w, bias, out, out_stride, part, scratch);
}

void PackTokens(const float* x, int64_t tokens, int64_t columns, int64_t token_begin,
                int64_t token_end, float* packed) {
  for (int64_t column = 0; column < columns; column += kColumnBlock) {
    const int64_t count = std::min(kColumnBlock, columns - column);
    float* block = packed + column / kColumnBlock * tokens * kPackedStride;
    for (int64_t t = token_begin; t < token_end; ++t) {
      std::copy_n(x + t * columns + column, count, block + t * kPackedStride);
    }
  }
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
