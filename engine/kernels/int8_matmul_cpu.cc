// Products of quantised weights with int8 activations. 32 columns of a vector of rows are unpacked
// into registers and met with one token after another; the sums of the tokens stay in L1. So one
// loop serves decode, which is bound by the bandwidth of the weights, and prefill, where unpacking
// is repaid by the tokens and the dot products are the bound.

#include <algorithm>
#include <cfloat>
#include <cstring>

#include "engine/format/int_groups.h"
#include "engine/kernels/cpu_features.h"
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
void QuantizeTokens(const Int8Format&, int, const float*, int64_t, int64_t, int64_t, int64_t,
                    Int8Group*) {}

#else

constexpr int kVectorsOfTile = kTileRows / kLanes;
// Vectors of rows that share the loads of activations, where there are registers for them.
constexpr int kMostVectors = kLanes == 16 ? 2 : 1;
constexpr int64_t kPairsFrom = 9;  // tokens; one stream of weights is read faster than two
// How far ahead of its use a line is asked for, into L2 (best of 2 to 8 KiB on a Xeon).
constexpr int64_t kAhead = 4096;

// 32 / F::kScales columns, half `half` of a group if they are two, times their scale. The second
// plane goes on from 256 times the first: below 2^29 in all.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens>
HWY_INLINE void Products(const Unpacked<F> (&w)[kVectors], const Int8Group* x, int half,
                         F32Vec (&products)[kTokens][kVectors]) {
  const F32Tag d;
  const I32Tag di;
  constexpr int kSteps = 8 / F::kScales;
  I32Vec dots[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) dots[t][v] = hn::Set(di, x[t].start[half][0]);
  }
  for (int plane = 0; plane < kPlanes; ++plane) {
    for (int j = half * kSteps; j < (half + 1) * kSteps; ++j) {
      for (int t = 0; t < kTokens; ++t) {
        int32_t four;
        std::memcpy(&four, x[t].q[plane] + 4 * j, sizeof(four));
        const I32Vec q = hn::Set(di, four);
        for (int v = 0; v < kVectors; ++v) dots[t][v] = Dot::Add(dots[t][v], w[v].u[j], q);
      }
    }
    if (plane + 1 == kPlanes) break;
    for (int t = 0; t < kTokens; ++t) {
      const I32Vec start = hn::Set(di, x[t].start[half][1]);
      for (int v = 0; v < kVectors; ++v) {
        dots[t][v] = hn::Add(hn::ShiftLeft<8>(dots[t][v]), start);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      products[t][v] = hn::Mul(hn::ConvertTo(d, dots[t][v]), w[v].scale[half]);
    }
  }
}

// sums [vectors][tokens][kLanes] += 32 columns of kVectors vectors of rows times kTokens tokens.
// The chains of dot products are interleaved: their latency is several times their throughput.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens>
HWY_INLINE void AddTokens(const Unpacked<F> (&w)[kVectors], const Int8Group* x,
                          float* HWY_RESTRICT sums) {
  const F32Tag d;
  F32Vec products[kTokens][kVectors];
  Products<F, Dot, kPlanes, kVectors, kTokens>(w, x, 0, products);
  if constexpr (F::kScales == 2) {
    F32Vec second[kTokens][kVectors];
    Products<F, Dot, kPlanes, kVectors, kTokens>(w, x, 1, second);
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) products[t][v] = hn::Add(products[t][v], second[t][v]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    const F32Vec scale = hn::Set(d, x[t].scale);
    for (int v = 0; v < kVectors; ++v) {
      float* sum_at = sums + (v * kInt8Tokens + t) * kLanes;
      F32Vec sum = hn::MulAdd(products[t][v], scale, hn::Load(d, sum_at));
      for (int i = 0; i < F::kMins; ++i) {
        sum = hn::NegMulAdd(w[v].min[i], hn::Set(d, x[t].sum[i]), sum);
      }
      hn::Store(sum, d, sum_at);
    }
  }
}

template <class F, class Dot, int kPlanes, int kVectors>
HWY_INLINE void AddGroup(const Unpacked<F> (&w)[kVectors], const Int8Group* x, int64_t tokens,
                         float* HWY_RESTRICT sums) {
  int64_t t = 0;
  constexpr int kTokens = kLanes < 16 ? 2 : 4;
  if constexpr (kVectors == 2) {  // so many that the registers just hold them
    for (; t + 6 <= tokens; t += 6) {
      AddTokens<F, Dot, kPlanes, kVectors, 6>(w, x + t, sums + t * kLanes);
    }
  }
  for (; t + kTokens <= tokens; t += kTokens) {
    AddTokens<F, Dot, kPlanes, kVectors, kTokens>(w, x + t, sums + t * kLanes);
  }
  for (; t < tokens; ++t) AddTokens<F, Dot, kPlanes, kVectors, 1>(w, x + t, sums + t * kLanes);
}

// kVectors vectors of rows from vector `first` of the matrix on; they are of full tiles, or of one
// tile.
template <class F, class Dot, int kPlanes, int kVectors>
HWY_NOINLINE void MultiplyVectors(const Int8Problem& p, int64_t first, int64_t token_begin,
                                  int64_t tokens, float* HWY_RESTRICT sums) {
  const int64_t block_columns = F::kVaries ? p.w.format->block_elements : F::kBlock;
  const int64_t bytes = F::kVaries ? p.w.format->block_bytes : F::kBytes;
  const int64_t groups = block_columns / kGroupColumns;
  const int64_t blocks = p.w.columns / block_columns;
  const int64_t row = first / kVectorsOfTile * kTileRows;
  const int64_t rows = std::min(kTileRows, p.w.rows - row);
  const auto* data = static_cast<const uint8_t*>(p.w.data);
  HWY_ALIGN uint8_t spread[kTileRows * F::kBytes];
  if (rows < kTileRows) std::memset(spread, 0, sizeof(spread));
  TileBlock tiles[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t tile_row = (first + v) / kVectorsOfTile * kTileRows;
    tiles[v] = {data + tile_row * blocks * bytes, (first + v) % kVectorsOfTile * kLanes};
  }
  for (int64_t block = 0; block < blocks; ++block) {
    TileBlock at[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const uint8_t* in = tiles[v].data + block * rows * bytes;
      at[v] = {in, tiles[v].first_row};
      if (rows < kTileRows) {
        SpreadBlock(p.units, in, rows, spread);
        at[v].data = spread;
      } else {
        for (int64_t line = 0; line < kTileRows * bytes; line += 64) {
          __builtin_prefetch(in + kAhead + line, 0, 2);
        }
      }
    }
    for (int64_t group = 0; group < groups; ++group) {
      Unpacked<F> w[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        F::Unpack(at[v], static_cast<int>(group), w[v]);
      }
      const Int8Group* x = p.x + (block * groups + group) * p.tokens + token_begin;
      AddGroup<F, Dot, kPlanes, kVectors>(w, x, tokens, sums);
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

template <class F, class Dot, int kPlanes>
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
      MultiplyVectors<F, Dot, kPlanes, kMostVectors>(p, first, part.token_begin, tokens, scratch);
    } else {
      MultiplyVectors<F, Dot, kPlanes, 1>(p, first, part.token_begin, tokens, scratch);
    }
    for (int v = 0; v < vectors; ++v) {
      StoreSums(p, first + v, part.token_begin, tokens, scratch + v * kInt8Tokens * kLanes);
    }
    first += vectors;
  }
}

template <class F, int kPlanes>
void Multiply(const Int8Problem& p, const Int8Part& part, float* scratch) {
#ifdef TPRUN_HAVE_VNNI_DOT
  if (HasVnni()) return MultiplyTiles<F, VnniDot, kPlanes>(p, part, scratch);
#endif
  MultiplyTiles<F, WidenedDot<F::kMost>, kPlanes>(p, part, scratch);
}

template <class F>
constexpr Int8Format FormatOf(const WeightFormat& format, absl::Span<const Units> units) {
  return {&format,    units,
          F::kOffset, F::kScales == 2 || F::kMins == 2,
          F::kPairs,  {Multiply<F, 1>, Multiply<F, 2>}};
}
template <class F>
constexpr Int8Format FormatOf(const WeightFormat& format) {
  return FormatOf<F>(format, F::kUnits);
}
// Number `i` of the formats of integers in groups, which has kColumns of them.
template <int kBits, class Scale, int kColumns>
constexpr Int8Format GroupsOf(int i) {
  using F = IntGroupInt8<kBits, Scale>;
  return FormatOf<F>(kIntGroupFormats[i], F::template kUnits<kColumns>);
}

const Int8Format* FindInt8Format(const WeightFormat& format) {
  static constexpr Int8Format kFormats[] = {
      FormatOf<Q8_0Int8>(kQ8_0Format),   FormatOf<Q4_0Int8>(kQ4_0Format),
      FormatOf<Q4_1Int8>(kQ4_1Format),   FormatOf<Q5_0Int8>(kQ5_0Format),
      FormatOf<Q5_1Int8>(kQ5_1Format),   FormatOf<Iq4NlInt8>(kIq4NlFormat),
      FormatOf<Iq4XsInt8>(kIq4XsFormat), FormatOf<Mxfp4Int8>(kMxfp4Format),
      FormatOf<Q4_KInt8>(kQ4_KFormat),   FormatOf<Q5_KInt8>(kQ5_KFormat),
      FormatOf<Q6_KInt8>(kQ6_KFormat),   FormatOf<Q3_KInt8>(kQ3_KFormat),
      FormatOf<Q2_KInt8>(kQ2_KFormat),   FormatOf<BnbInt8>(kBnbInt8Format),
      GroupsOf<4, F16Element, 32>(0),    GroupsOf<4, F16Element, 64>(1),
      GroupsOf<4, F16Element, 128>(2),   GroupsOf<4, BF16Element, 32>(3),
      GroupsOf<4, BF16Element, 64>(4),   GroupsOf<4, BF16Element, 128>(5),
      GroupsOf<8, F16Element, 32>(6),    GroupsOf<8, F16Element, 128>(7),
      GroupsOf<8, BF16Element, 32>(8),   GroupsOf<8, BF16Element, 128>(9),
      GroupsOf<8, F32Element, 32>(10),   GroupsOf<8, F32Element, 128>(11)};
  for (const Int8Format& known : kFormats) {
    if (known.format == &format) return &known;
  }
  return nullptr;
}

// The largest magnitude of a block; not finite where a value is not.
HWY_INLINE float LargestOf(const float* x, int64_t count) {
  const F32Tag d;
  F32Vec most = hn::Zero(d), poison = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kLanes) {
    const F32Vec v = hn::LoadU(d, x + i);
    most = hn::Max(most, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  return hn::GetLane(hn::MaxOfLanes(d, most)) + Sum(poison);
}

HWY_INLINE void QuantizeGroup(const Int8Format& format, int planes, const float* x, float scale,
                              float inverse, Int8Group& out) {
  const F32Tag d;
  const I32Tag di;
  const hn::Rebind<int8_t, F32Tag> d8;
  int32_t sums[2][2] = {};  // [half][plane]
  for (int i = 0; i < kGroupColumns; i += kLanes) {
    const I32Vec q = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    const int half = format.halves ? i / 16 : 0;
    const I32Vec high = planes == 1 ? q : hn::ShiftRight<8>(hn::Add(q, hn::Set(di, 128)));
    hn::StoreU(hn::DemoteTo(d8, high), d8, out.q[0] + i);
    sums[half][0] += hn::GetLane(hn::SumOfLanes(di, high));
    if (planes == 1) continue;
    const I32Vec low = hn::Sub(q, hn::ShiftLeft<8>(high));
    hn::StoreU(hn::DemoteTo(d8, low), d8, out.q[1] + i);
    sums[half][1] += hn::GetLane(hn::SumOfLanes(di, low));
  }
  for (int p = 0; format.pairs && p < planes; ++p) {
    int8_t columns[kGroupColumns];
    std::memcpy(columns, out.q[p], sizeof(columns));
    for (int i = 0; i < kGroupColumns; ++i) out.q[p][i] = columns[PairedColumn(i)];
  }
  out.scale = scale;
  for (int i = 0; i < 2; ++i) {
    for (int p = 0; p < 2; ++p) out.start[i][p] = -format.offset * sums[i][p];
    const int32_t whole = planes == 1 ? sums[i][0] : 256 * sums[i][0] + sums[i][1];
    out.sum[i] = scale * static_cast<float>(whole);
  }
}

constexpr float kZeros[kGroupColumns] = {};

void QuantizeTokens(const Int8Format& format, int planes, const float* x, int64_t columns,
                    int64_t tokens, int64_t token_begin, int64_t token_end, Int8Group* out) {
  const int64_t block = format.format->block_elements;
  const float levels = planes == 1 ? 127 : 127 * 256;  // so that both planes have 8 bits
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t c = 0; c < columns; c += block) {
      const float* values = x + t * columns + c;
      const float scale = LargestOf(values, block) / levels;
      const float inverse = scale > FLT_MIN ? 1 / scale : 0;  // else 1 / scale may overflow
      for (int64_t i = 0; i < block; i += kGroupColumns) {
        // A block that is zero or not finite: its scale alone tells.
        QuantizeGroup(format, planes, inverse == 0 ? kZeros : values + i, scale, inverse,
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
void QuantizeTokens(const Int8Format& format, int planes, const float* x, int64_t columns,
                    int64_t tokens, int64_t token_begin, int64_t token_end, Int8Group* out) {
  HWY_DYNAMIC_DISPATCH(QuantizeTokens)
  (format, planes, x, columns, tokens, token_begin, token_end, out);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
