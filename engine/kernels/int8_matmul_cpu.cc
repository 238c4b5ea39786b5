// Products of quantised weights with int8 activations. 32 columns of a vector of rows are unpacked
// into registers and met with one token after another; the sums of the tokens stay in L1. So one
// loop serves decode, which is bound by the bandwidth of the weights, and prefill, where unpacking
// is repaid by the tokens and the dot products are the bound.

#include <algorithm>
#include <cfloat>
#include <cstring>

#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/int8_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/int8_matmul_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/int8_formats-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

const Int8Format* FindInt8Format(const WeightFormat& /*format*/) { return nullptr; }
void QuantizeTokens(const Int8Format&, const float*, int64_t, int64_t, int64_t, int64_t,
                    Int8Group*) {}

#else

constexpr int kVectorsOfTile = kTileRows / kLanes;
// Vectors of rows that share the loads of activations, where there are registers for them.
constexpr int kMostVectors = kLanes == 16 ? 2 : 1;
constexpr int64_t kPairsFrom = 9;  // tokens; one stream of weights is read faster than two
// How far ahead of its use a line is asked for, into L2 (best of 2 to 8 KiB on a Xeon).
constexpr int64_t kAhead = 4096;

// sums [vectors][tokens][kLanes] += 32 columns of kVectors vectors of rows times the tokens.
template <class F, class Dot, int kVectors>
HWY_INLINE void AddGroup(const Unpacked<F> (&w)[kVectors], const Int8Group* x, int64_t tokens,
                         float* HWY_RESTRICT sums) {
  const F32Tag d;
  const I32Tag di;
  for (int64_t t = 0; t < tokens; ++t, ++x, sums += kLanes) {
    I32Vec dots[kVectors][F::kScales];
    for (int i = 0; i < F::kScales; ++i) {
      const I32Vec start = F::kOffset == 0 ? hn::Zero(di) : hn::Set(di, x->start[i]);
      for (int v = 0; v < kVectors; ++v) dots[v][i] = start;
    }
    for (int j = 0; j < 8; ++j) {
      int32_t four;
      std::memcpy(&four, x->q + 4 * j, sizeof(four));
      const I32Vec q = hn::Set(di, four);
      for (int v = 0; v < kVectors; ++v) {
        I32Vec& dot = dots[v][j * F::kScales / 8];
        dot = Dot::Add(dot, w[v].u[j], q);
      }
    }
    const F32Vec scale = hn::Set(d, x->scale);
    for (int v = 0; v < kVectors; ++v) {
      float* sum_at = sums + v * kInt8Tokens * kLanes;
      F32Vec product = hn::Mul(ToF32(dots[v][0]), w[v].scale[0]);
      for (int i = 1; i < F::kScales; ++i) {
        product = hn::MulAdd(ToF32(dots[v][i]), w[v].scale[i], product);
      }
      F32Vec sum = hn::MulAdd(product, scale, hn::Load(d, sum_at));
      for (int i = 0; i < F::kMins; ++i) {
        sum = hn::NegMulAdd(w[v].min[i], hn::Set(d, x->sum[i]), sum);
      }
      hn::Store(sum, d, sum_at);
    }
  }
}

// Block `block` of a tile of fewer rows, spread as one of kTileRows.
HWY_INLINE void SpreadBlock(absl::Span<const Units> units, const uint8_t* in, int64_t rows,
                            uint8_t* out) {
  for (const Units& run : units) {
    for (int i = 0; i < run.count; ++i) {
      std::memcpy(out, in, rows * run.bytes);
      in += rows * run.bytes;
      out += kTileRows * run.bytes;
    }
  }
}

// kVectors vectors of rows from vector `first` of the matrix on; they are of full tiles, or of one
// tile.
template <class F, class Dot, int kVectors>
HWY_NOINLINE void MultiplyVectors(const Int8Problem& p, int64_t first, int64_t token_begin,
                                  int64_t tokens, float* HWY_RESTRICT sums) {
  constexpr int64_t kGroups = F::kBlock / kGroupColumns;
  const int64_t blocks = p.w.columns / F::kBlock;
  const int64_t row = first / kVectorsOfTile * kTileRows;
  const int64_t rows = std::min(kTileRows, p.w.rows - row);
  const auto* data = static_cast<const uint8_t*>(p.w.data);
  HWY_ALIGN uint8_t spread[kTileRows * F::kBytes];
  if (rows < kTileRows) std::memset(spread, 0, sizeof(spread));
  TileBlock tiles[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t tile_row = (first + v) / kVectorsOfTile * kTileRows;
    tiles[v] = {data + tile_row * blocks * F::kBytes, (first + v) % kVectorsOfTile * kLanes};
  }
  for (int64_t block = 0; block < blocks; ++block) {
    TileBlock at[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const uint8_t* in = tiles[v].data + block * rows * F::kBytes;
      at[v] = {in, tiles[v].first_row};
      if (rows < kTileRows) {
        SpreadBlock(F::kUnits, in, rows, spread);
        at[v].data = spread;
      } else {
        for (int64_t line = 0; line < kTileRows * F::kBytes; line += 64) {
          __builtin_prefetch(in + kAhead + line, 0, 2);
        }
      }
    }
    for (int64_t group = 0; group < kGroups; ++group) {
      Unpacked<F> w[kVectors];
      for (int v = 0; v < kVectors; ++v) F::Unpack(at[v], static_cast<int>(group), w[v]);
      const Int8Group* x = p.x + (block * kGroups + group) * p.tokens + token_begin;
      AddGroup<F, Dot, kVectors>(w, x, tokens, sums);
    }
  }
}

// The sums of a vector of rows to out, with the bias.
HWY_INLINE void StoreSums(const Int8Problem& p, int64_t vector, int64_t token_begin, int64_t tokens,
                          const float* sums) {
  const F32Tag d;
  const int64_t row = vector * kLanes;
  const int64_t rows = std::min<int64_t>(kLanes, p.w.rows - row);
  if (rows <= 0) return;
  const F32Vec bias = p.bias == nullptr ? hn::Zero(d) : LoadFloats(p.bias + row, rows);
  for (int64_t t = 0; t < tokens; ++t) {
    float* out = p.out + (token_begin + t) * p.out_stride + row;
    const F32Vec sum = hn::Add(hn::Load(d, sums + t * kLanes), bias);
    if (rows == kLanes) {
      hn::StoreU(sum, d, out);
    } else {
      StoreFloats(sum, out, rows);
    }
  }
}

template <class F, class Dot>
HWY_NOINLINE void MultiplyTiles(const Int8Problem& p, const Int8Part& part, float* scratch) {
  const int64_t tokens = part.token_end - part.token_begin;
  const int64_t end = std::min(part.tile_end * kVectorsOfTile,  // vectors
                               (p.w.rows + kLanes - 1) / kLanes);
  const int64_t full_end = std::min(end, p.w.rows / kTileRows * kVectorsOfTile);
  for (int64_t first = part.tile_begin * kVectorsOfTile; first < end;) {
    const bool several = tokens >= kPairsFrom && first + kMostVectors <= full_end;
    const int vectors = several ? kMostVectors : 1;
    for (int v = 0; v < vectors; ++v) {
      float* sums = scratch + v * kInt8Tokens * kLanes;
      std::fill(sums, sums + tokens * kLanes, 0.0f);
    }
    if (several) {
      MultiplyVectors<F, Dot, kMostVectors>(p, first, part.token_begin, tokens, scratch);
    } else {
      MultiplyVectors<F, Dot, 1>(p, first, part.token_begin, tokens, scratch);
    }
    for (int v = 0; v < vectors; ++v) {
      StoreSums(p, first + v, part.token_begin, tokens, scratch + v * kInt8Tokens * kLanes);
    }
    first += vectors;
  }
}

template <class F>
void Multiply(const Int8Problem& p, const Int8Part& part, float* scratch) {
#ifdef TPRUN_HAVE_VNNI_DOT
  static const bool has_vnni = HasVnni();
  if (has_vnni) return MultiplyTiles<F, VnniDot>(p, part, scratch);
#endif
  MultiplyTiles<F, WidenedDot<F::kMost> >(p, part, scratch);
}

template <class F>
constexpr Int8Format FormatOf(const WeightFormat& format) {
  return {&format, F::kUnits, F::kOffset, F::kScales == 2 || F::kMins == 2, Multiply<F>};
}

const Int8Format* FindInt8Format(const WeightFormat& format) {
  static constexpr Int8Format kFormats[] = {
      FormatOf<Q8_0Int8>(kQ8_0Format),   FormatOf<Q4_0Int8>(kQ4_0Format),
      FormatOf<Q4_1Int8>(kQ4_1Format),   FormatOf<Q5_0Int8>(kQ5_0Format),
      FormatOf<Q5_1Int8>(kQ5_1Format),   FormatOf<Iq4NlInt8>(kIq4NlFormat),
      FormatOf<Iq4XsInt8>(kIq4XsFormat), FormatOf<Mxfp4Int8>(kMxfp4Format),
      FormatOf<Q4_KInt8>(kQ4_KFormat),   FormatOf<Q5_KInt8>(kQ5_KFormat),
      FormatOf<Q6_KInt8>(kQ6_KFormat),   FormatOf<Q3_KInt8>(kQ3_KFormat),
      FormatOf<Q2_KInt8>(kQ2_KFormat)};
  for (const Int8Format& known : kFormats) {
    if (known.format == &format) return &known;
  }
  return nullptr;
}

// The scale of a block, as q8_0's: the largest magnitude / 127; not finite where a value is not.
HWY_INLINE float BlockScale(const float* x, int64_t count) {
  const F32Tag d;
  F32Vec most = hn::Zero(d), poison = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kLanes) {
    const F32Vec v = hn::LoadU(d, x + i);
    most = hn::Max(most, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  return hn::GetLane(hn::MaxOfLanes(d, most)) / 127 + Sum(poison);
}

HWY_INLINE void QuantizeGroup(const Int8Format& format, const float* x, float scale, float inverse,
                              Int8Group& out) {
  const F32Tag d;
  const hn::Rebind<int8_t, F32Tag> d8;
  int32_t sums[2] = {0, 0};  // of the halves
  for (int i = 0; i < kGroupColumns; i += kLanes) {
    const I32Vec q = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d8, q), d8, out.q + i);
    sums[i / 16] += hn::GetLane(hn::SumOfLanes(I32Tag(), q));
  }
  if (!format.halves) sums[0] += sums[1];
  out.scale = scale;
  for (int i = 0; i < 2; ++i) {
    out.start[i] = -format.offset * sums[i];
    out.sum[i] = scale * static_cast<float>(sums[i]);
  }
}

void QuantizeTokens(const Int8Format& format, const float* x, int64_t columns, int64_t tokens,
                    int64_t token_begin, int64_t token_end, Int8Group* out) {
  const int64_t block = format.format->block_elements;
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t c = 0; c < columns; c += block) {
      const float* values = x + t * columns + c;
      const float scale = BlockScale(values, block);
      const float inverse = scale > FLT_MIN ? 1 / scale : 0;  // else 1 / scale may overflow
      for (int64_t i = 0; i < block; i += kGroupColumns) {
        QuantizeGroup(format, values + i, scale, inverse,
                      out[(c + i) / kGroupColumns * tokens + t]);
      }
    }
  }
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(FindInt8Format);
HWY_EXPORT(QuantizeTokens);

const Int8Format* FindInt8Format(const WeightFormat& format) {
  return HWY_DYNAMIC_DISPATCH(FindInt8Format)(format);
}
void QuantizeTokens(const Int8Format& format, const float* x, int64_t columns, int64_t tokens,
                    int64_t token_begin, int64_t token_end, Int8Group* out) {
  HWY_DYNAMIC_DISPATCH(QuantizeTokens)
  (format, x, columns, tokens, token_begin, token_end, out);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
