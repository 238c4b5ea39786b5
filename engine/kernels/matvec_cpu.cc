// Products of few tokens with a matrix: bound by the bandwidth of the weights, so that each is read
// once and decoded in registers. Several rows at a time share the activations and hide latency.

#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/matvec_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/quant_blocks-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

// The accumulators must fit the registers: 32 with AVX-512, else 16.
template <int kTokens>
inline constexpr int kRowsAtOnce = (kLanes == 16 || kTokens == 1) ? 4 : 2;

// Into L2, not L1: the line is needed only when the next group of rows is reached.
HWY_INLINE void PrefetchL2(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }

// Dots of kRows rows with kTokens tokens, for matrices of plain elements.
template <class Element>
struct PlainDots {
  template <int kRows, int kTokens>
  static HWY_INLINE void Run(const uint8_t* const* rows, int64_t columns, const float* x,
                             int64_t x_stride, int64_t ahead, F32Vec (&sums)[kRows][kTokens]) {
    int64_t c = 0;
    F32Vec xs[kTokens];
    for (; c + kLanes <= columns; c += kLanes) {
      for (int t = 0; t < kTokens; ++t) xs[t] = hn::LoadU(F32Tag(), x + t * x_stride + c);
      for (int r = 0; r < kRows; ++r) {
        const uint8_t* p = rows[r] + c * Element::kBytes;
        PrefetchL2(p + ahead);
        const F32Vec w = Element::Load(p);
        for (int t = 0; t < kTokens; ++t) sums[r][t] = hn::MulAdd(w, xs[t], sums[r][t]);
      }
    }
    if (c == columns) return;
    const int64_t left = columns - c;
    for (int t = 0; t < kTokens; ++t) xs[t] = LoadFloats(x + t * x_stride + c, left);
    for (int r = 0; r < kRows; ++r) {
      const F32Vec w = Element::LoadTail(rows[r] + c * Element::kBytes, left);
      for (int t = 0; t < kTokens; ++t) sums[r][t] = hn::MulAdd(w, xs[t], sums[r][t]);
    }
  }
};

// The same for blocks of 32 with a scale, which multiplies the sum of a block once. Scales are
// collected a chunk ahead: a vector load right behind the narrow stores would wait for them.
template <class Block>
struct BlockDots {
  template <int kRows, int kTokens>
  static HWY_INLINE void Run(const uint8_t* const* rows, int64_t columns, const float* x,
                             int64_t x_stride, int64_t ahead, F32Vec (&sums)[kRows][kTokens]) {
    HWY_ALIGN ScaleChunk halves[kRows] = {};
    HWY_ALIGN float scales[kRows][kScaleChunk];
    const int64_t blocks = columns / kBlockValues;
    for (int r = 0; r < kRows; ++r) CollectScales<Block>(rows[r], blocks, &halves[r]);
    for (int64_t first = 0; first < blocks; first += kScaleChunk) {
      const int64_t next = first + kScaleChunk;
      for (int r = 0; r < kRows; ++r) {
        WidenScales(halves[r], scales[r]);
        CollectScales<Block>(rows[r] + next * Block::kBytes, blocks - next, &halves[r]);
      }
      const int64_t end = next < blocks ? next : blocks;
      for (int64_t b = first; b < end; ++b) {
        for (int r = 0; r < kRows; ++r) {
          const uint8_t* block = rows[r] + b * Block::kBytes;
          if (b % Block::kBlocksPerLine == 0) PrefetchL2(block + ahead);
          AddBlock(block, scales[r][b - first], x + b * kBlockValues, x_stride, sums[r]);
        }
      }
    }
  }

 private:
  template <int kTokens>
  static HWY_INLINE void AddBlock(const uint8_t* block, float scale, const float* x,
                                  int64_t x_stride, F32Vec (&sums)[kTokens]) {
    const F32Tag d;
    F32Vec w[kBlockVectors];
    Block::Decode(block, w);
    const F32Vec scales = hn::Set(d, scale);
    for (int t = 0; t < kTokens; ++t) {
      F32Vec dot = hn::Mul(w[0], hn::LoadU(d, x + t * x_stride));
      for (int i = 1; i < kBlockVectors; ++i) {
        dot = hn::MulAdd(w[i], hn::LoadU(d, x + t * x_stride + i * kLanes), dot);
      }
      sums[t] = hn::MulAdd(dot, scales, sums[t]);
    }
  }
};

struct Problem {
  const uint8_t* w;
  int64_t row_bytes;
  int64_t columns;
  const float* x;
  const float* bias;
  float* out;
  int64_t out_stride;
};

// Rows [begin, end), at most kRowsAtOnce of them, for kTokens tokens from `token` on.
template <class Dots, int kTokens>
HWY_NOINLINE void RowsTimesTokens(const Problem& p, int64_t begin, int64_t end, int64_t token) {
  constexpr int kRows = kRowsAtOnce<kTokens>;
  const uint8_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) {  // past the end: the last row again, not stored
    rows[r] = p.w + (begin + r < end ? begin + r : end - 1) * p.row_bytes;
  }
  F32Vec sums[kRows][kTokens];
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) sums[r][t] = hn::Zero(F32Tag());
  }
  Dots::template Run<kRows, kTokens>(rows, p.columns, p.x + token * p.columns, p.columns,
                                     kRows * p.row_bytes, sums);
  for (int r = 0; r < kRows && begin + r < end; ++r) {
    const float bias = p.bias == nullptr ? 0 : p.bias[begin + r];
    for (int t = 0; t < kTokens; ++t) {
      p.out[(token + t) * p.out_stride + begin + r] = Sum(sums[r][t]) + bias;
    }
  }
}

template <class Dots, int kTokens>
void RowRange(const Problem& p, int64_t begin, int64_t end, int64_t token) {
  constexpr int64_t kRows = kRowsAtOnce<kTokens>;
  for (int64_t row = begin; row < end; row += kRows) {
    RowsTimesTokens<Dots, kTokens>(p, row, row + kRows < end ? row + kRows : end, token);
  }
}

// Goes over few rows at a time, so that further groups of tokens find the weights in the cache.
template <class Dots>
void AllTokens(const Problem& p, int64_t tokens, int64_t begin, int64_t end) {
  constexpr int64_t kRows = 8;
  const int64_t step = tokens > kMatVecTokens ? kRows : end - begin;
  for (int64_t row = begin; row < end; row += step) {
    const int64_t stop = row + step < end ? row + step : end;
    int64_t token = 0;
    for (; token + 4 <= tokens; token += 4) RowRange<Dots, 4>(p, row, stop, token);
    if (tokens - token == 3) RowRange<Dots, 3>(p, row, stop, token);
    if (tokens - token == 2) RowRange<Dots, 2>(p, row, stop, token);
    if (tokens - token == 1) RowRange<Dots, 1>(p, row, stop, token);
  }
}

// Any other format: its own decoder into scratch, a few rows at a time.
void AnyFormat(Problem p, const WeightFormat& format, int64_t tokens, int64_t begin, int64_t end,
               float* scratch) {
  const uint8_t* w = p.w;
  const int64_t row_bytes = p.row_bytes;
  p.w = reinterpret_cast<const uint8_t*>(scratch);
  p.row_bytes = p.columns * sizeof(float);
  float* const out = p.out;
  const float* const bias = p.bias;
  for (int64_t row = begin; row < end; row += kMatVecScratchRows) {
    const int64_t rows = row + kMatVecScratchRows < end ? kMatVecScratchRows : end - row;
    for (int64_t r = 0; r < rows; ++r) {
      format.dequantize(w + (row + r) * row_bytes, scratch + r * p.columns, p.columns);
    }
    p.out = out + row;
    p.bias = bias == nullptr ? nullptr : bias + row;
    AllTokens<PlainDots<F32Element>>(p, tokens, 0, rows);
  }
}

void MatVecRows(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                float* out, int64_t out_stride, int64_t begin, int64_t end, float* scratch) {
  const Problem p{static_cast<const uint8_t*>(w.data),
                  w.format->Bytes(w.columns),
                  w.columns,
                  x,
                  bias,
                  out,
                  out_stride};
  if (w.format == &kF32Format) return AllTokens<PlainDots<F32Element>>(p, tokens, begin, end);
  if (w.format == &kF16Format) return AllTokens<PlainDots<F16Element>>(p, tokens, begin, end);
  if (w.format == &kBF16Format) return AllTokens<PlainDots<BF16Element>>(p, tokens, begin, end);
  if (w.format == &kQ8_0Format) return AllTokens<BlockDots<Q8_0Block>>(p, tokens, begin, end);
  if (w.format == &kQ4_0Format) return AllTokens<BlockDots<Q4_0Block>>(p, tokens, begin, end);
  AnyFormat(p, *w.format, tokens, begin, end, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(MatVecRows);

bool MatVecNeedsScratch(const WeightFormat& format) {
  for (const WeightFormat* known :
       {&kF32Format, &kF16Format, &kBF16Format, &kQ8_0Format, &kQ4_0Format}) {
    if (&format == known) return false;
  }
  return true;
}

void MatVecRows(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                float* out, int64_t out_stride, int64_t begin, int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(MatVecRows)(x, w, bias, tokens, out, out_stride, begin, end, scratch);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
