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

#include "engine/kernels/int8_products-inl.h"
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
// How far ahead of a block's first line those of a later one are asked for, all at once: left to
// the hardware, or asked for group by group, the lines of q4_k and q6_k come at half the rate to
// two thirds of it (Zen 5; of 2 to 16 KiB, 4 to 8 are alike).
constexpr int64_t kAhead = 6144;

// Of many tokens, in L1: [tokens][kMostVectors][kLanes] each.
struct Accumulators {
  float* HWY_RESTRICT sums;
  float* HWY_RESTRICT partial;  // of the block, zero between blocks
  HWY_INLINE static int64_t At(int v, int64_t t) { return (t * kMostVectors + v) * kLanes; }
};

// The blocks of kVectors vectors of rows from vector `first` of the matrix on; they are of full
// tiles, or of one tile.
template <class F, int kVectors>
class TileBlocks {
 public:
  TileBlocks(const Int8Problem& p, int64_t first)
      : format_(*p.w.format), units_(p.units), blocks_(p.w.columns / columns()) {
    const int64_t row = first / kVectorsOfTile * kTileRows;
    rows_ = std::min(kTileRows, p.w.rows - row);
    if (rows_ < kTileRows) std::memset(spread_, 0, sizeof(spread_));
    for (int v = 0; v < kVectors; ++v) {
      const int64_t tile_row = (first + v) / kVectorsOfTile * kTileRows;
      at_[v] = {nullptr, (first + v) % kVectorsOfTile * kLanes};
      data_[v] = static_cast<const uint8_t*>(p.w.data) + tile_row * blocks_ * bytes();
    }
  }

  int64_t blocks() const { return blocks_; }
  HWY_INLINE int groups() const { return static_cast<int>(columns() / kGroupColumns); }

  HWY_INLINE void Open(int64_t block, BlockScales<F> (&scales)[kVectors]) {
    for (int v = 0; v < kVectors; ++v) {
      at_[v].data = data_[v] + block * rows_ * bytes();
      if (rows_ < kTileRows) {
        SpreadBlock(units_, at_[v].data, rows_, spread_);
        at_[v].data = spread_;
      } else {
        const uint8_t* ahead = at_[v].data + kAhead;
        for (int64_t line = 0; line < kTileRows * bytes(); line += 64) {
          __builtin_prefetch(ahead + line, 0, 3);
        }
      }
      F::Open(at_[v], scales[v]);
    }
  }

  // A group of the block that was opened last.
  HWY_INLINE void Unpack(int group, const BlockScales<F> (&scales)[kVectors],
                         Unpacked<F> (&out)[kVectors]) const {
    for (int v = 0; v < kVectors; ++v) F::Unpack(at_[v], scales[v], group, out[v]);
  }

 private:
  // Of a block: constants but where formats vary.
  HWY_INLINE int64_t columns() const { return F::kVaries ? format_.block_elements : F::kBlock; }
  HWY_INLINE int64_t bytes() const { return F::kVaries ? format_.block_bytes : F::kBytes; }

  const WeightFormat& format_;
  absl::Span<const Units> units_;
  int64_t blocks_;
  int64_t rows_;
  const uint8_t* data_[kVectors];
  TileBlock at_[kVectors];
  HWY_ALIGN uint8_t spread_[kTileRows * F::kBytes];  // a tile of fewer rows
};

// One vector of rows for kTokens tokens, whose sums stay in registers.
template <class F, class Dot, int kPlanes, int kTokens>
HWY_NOINLINE void MultiplyFew(const Int8Problem& p, int64_t vector, int64_t token,
                              float* HWY_RESTRICT out) {
  const F32Tag d;
  F32Vec sums[kTokens][1];
  for (auto& sum : sums) sum[0] = hn::Zero(d);
  TileBlocks<F, 1> tiles(p, vector);
  const int groups = tiles.groups();
  const Int8Group* x = p.x + token;
  for (int64_t block = 0; block < tiles.blocks(); ++block, x += groups * p.tokens) {
    BlockScales<F> scales[1];
    tiles.Open(block, scales);
    Partial<F> partial[kTokens][1];
    for (int t = 0; t < kTokens; ++t) partial[t][0] = hn::Zero(hn::DFromV<Partial<F> >());
#pragma GCC unroll 8
    for (int group = 0; group < groups; ++group) {
      Unpacked<F> w[1];
      tiles.Unpack(group, scales, w);
      const auto before = [&](int t, int v) HWY_ATTR { return partial[t][v]; };
      AddGroup<F, Dot, kPlanes>(w, x + group * p.tokens, before, partial);
    }
    FinishBlock<F, Dot, kPlanes, 1, kTokens>(scales, x, groups, p.tokens, partial, sums);
  }
  for (int t = 0; t < kTokens; ++t) hn::Store(sums[t][0], d, out + Accumulators::At(0, t));
}

template <class F>
HWY_INLINE Partial<F> LoadPartial(const float* from) {
  return hn::BitCast(hn::DFromV<Partial<F> >(), hn::Load(F32Tag(), from));
}

// Calls body(token, constant of how many) for all tokens, as many at a time as share the loads of
// weights best: so many that the registers just hold their sums, which hide each other's latency.
template <int kVectors, class Body>
HWY_INLINE void ForTokens(int64_t tokens, const Body& body) {
  constexpr int kMost = kVectors == 2 ? 6 : kLanes < 16 ? 2 : 4;
  constexpr int kFewer = kLanes < 16 ? 2 : 4;
  int64_t t = 0;
  for (; t + kMost <= tokens; t += kMost) body(t, std::integral_constant<int, kMost>());
  if constexpr (kFewer < kMost) {
    for (; t + kFewer <= tokens; t += kFewer) body(t, std::integral_constant<int, kFewer>());
  }
  for (; t < tokens; ++t) body(t, std::integral_constant<int, 1>());
}

template <class F, class Dot, int kPlanes, int kVectors, int kTokens>
HWY_INLINE void FinishTokens(const BlockScales<F> (&scales)[kVectors], const Int8Group* x,
                             int groups, int64_t stride,
                             const Partial<F> (&partial)[kTokens][kVectors], int64_t token,
                             const Accumulators& to) {
  const F32Tag d;
  F32Vec sums[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) sums[t][v] = hn::Load(d, to.sums + to.At(v, token + t));
  }
  FinishBlock<F, Dot, kPlanes, kVectors, kTokens>(scales, x + token, groups, stride, partial, sums);
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sums[t][v], d, to.sums + to.At(v, token + t));
  }
}

// A group of many tokens; it is the block where blocks have one.
template <class F, class Dot, int kPlanes, int kVectors>
HWY_INLINE void AddGroupOfMany(const Unpacked<F> (&w)[kVectors],
                               const BlockScales<F> (&scales)[kVectors], const Int8Group* x,
                               int64_t tokens, const Accumulators& to) {
  ForTokens<kVectors>(tokens, [&](int64_t token, auto count) HWY_ATTR {
    constexpr int kTokens = count();
    Partial<F> partial[kTokens][kVectors];
    const auto before = [&](int t, int v) HWY_ATTR {
      return F::kGroups == 1 ? hn::Zero(hn::DFromV<Partial<F> >())
                             : LoadPartial<F>(to.partial + to.At(v, token + t));
    };
    AddGroup<F, Dot, kPlanes>(w, x + token, before, partial);
    if constexpr (F::kGroups == 1) {
      FinishTokens<F, Dot, kPlanes, kVectors, kTokens>(scales, x, 1, 0, partial, token, to);
    } else {
      for (int t = 0; t < kTokens; ++t) {
        for (int v = 0; v < kVectors; ++v) {
          hn::Store(hn::BitCast(F32Tag(), partial[t][v]), F32Tag(),
                    to.partial + to.At(v, token + t));
        }
      }
    }
  });
}

// The end of a block of several groups.
template <class F, class Dot, int kPlanes, int kVectors>
HWY_INLINE void FinishOfMany(const BlockScales<F> (&scales)[kVectors], const Int8Group* x,
                             int groups, int64_t stride, int64_t tokens, const Accumulators& to) {
  for (int64_t token = 0; token < tokens; ++token) {
    Partial<F> partial[1][kVectors];
    for (int v = 0; v < kVectors; ++v) {
      partial[0][v] = LoadPartial<F>(to.partial + to.At(v, token));
      hn::Store(hn::Zero(F32Tag()), F32Tag(), to.partial + to.At(v, token));
    }
    FinishTokens<F, Dot, kPlanes, kVectors, 1>(scales, x, groups, stride, partial, token, to);
  }
}

// kVectors vectors of rows (see TileBlocks) for many tokens.
template <class F, class Dot, int kPlanes, int kVectors>
HWY_NOINLINE void MultiplyMany(const Int8Problem& p, int64_t first, int64_t token_begin,
                               int64_t tokens, const Accumulators& to) {
  TileBlocks<F, kVectors> tiles(p, first);
  const int groups = tiles.groups();
  const Int8Group* x = p.x + token_begin;
  for (int64_t block = 0; block < tiles.blocks(); ++block, x += groups * p.tokens) {
    BlockScales<F> scales[kVectors];
    tiles.Open(block, scales);
#pragma GCC unroll 1
    for (int group = 0; group < groups; ++group) {
      Unpacked<F> w[kVectors];
      tiles.Unpack(group, scales, w);
      AddGroupOfMany<F, Dot, kPlanes, kVectors>(w, scales, x + group * p.tokens, tokens, to);
    }
    if constexpr (F::kGroups > 1) {
      FinishOfMany<F, Dot, kPlanes, kVectors>(scales, x, groups, p.tokens, tokens, to);
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
    const F32Vec sum = hn::Add(hn::Load(d, sums + Accumulators::At(0, t)), bias);
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
  const Accumulators to = {scratch, scratch + kMostVectors * kInt8Tokens * kLanes};
  for (int64_t first = part.tile_begin * kVectorsOfTile; first < end;) {
    const bool several = tokens >= kPairsFrom && first + kMostVectors <= full_end;
    const int vectors = several ? kMostVectors : 1;
    if (tokens == 1) {
      MultiplyFew<F, Dot, kPlanes, 1>(p, first, part.token_begin, to.sums);
    } else {
      std::fill_n(to.sums, to.At(0, tokens), 0.0f);
      std::fill_n(to.partial, to.At(0, tokens), 0.0f);
      if (several) {
        MultiplyMany<F, Dot, kPlanes, kMostVectors>(p, first, part.token_begin, tokens, to);
      } else {
        MultiplyMany<F, Dot, kPlanes, 1>(p, first, part.token_begin, tokens, to);
      }
    }
    for (int v = 0; v < vectors; ++v) {
      StoreSums(p, first + v, part.token_begin, tokens, to.sums + to.At(v, 0));
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
  return {&format,
          units,
          F::kOffset,
          F::kScales == 2 || F::kMinWords == 4,
          F::kPairs,
          F::kMinWords > 0,
          {Multiply<F, 1>, Multiply<F, 2>}};
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

// Rounds a group; whole: the sums of its halves, or of all in the first.
HWY_INLINE void QuantizeGroup(const Int8Format& format, int planes, const float* x, float scale,
                              float inverse, Int8Group& out, int32_t (&whole)[2]) {
  const F32Tag d;
  const I32Tag di;
  const hn::Rebind<int8_t, F32Tag> d8;
  whole[0] = whole[1] = 0;
  for (int i = 0; i < kGroupColumns; i += kLanes) {
    const I32Vec q = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    whole[format.halves ? i / 16 : 0] += hn::GetLane(hn::SumOfLanes(di, q));
    const I32Vec high = planes == 1 ? q : hn::ShiftRight<8>(hn::Add(q, hn::Set(di, 128)));
    hn::StoreU(hn::DemoteTo(d8, high), d8, out.q[0] + i);
    if (planes == 1) continue;
    const I32Vec low = hn::Sub(q, hn::ShiftLeft<8>(high));
    hn::StoreU(hn::DemoteTo(d8, low), d8, out.q[1] + i);
  }
  for (int p = 0; format.pairs && p < planes; ++p) {
    int8_t columns[kGroupColumns];
    std::memcpy(columns, out.q[p], sizeof(columns));
    for (int i = 0; i < kGroupColumns; ++i) out.q[p][i] = columns[PairedColumn(i)];
  }
  out.scale = scale;
  out.sum = static_cast<float>(whole[0] + whole[1]);
  for (int i = 0; i < 2; ++i) out.start[i] = -format.offset * whole[i];
}

// A sum of values in parts, the last of which takes what is left: see Int8Group.
void CutSum(int32_t sum, int64_t at, Int8Group& out) {
  constexpr int32_t kHalf = 1 << (kSumPartBits - 1);
  for (int part = 0; part < 2; ++part) {
    const int32_t low = ((sum + kHalf) & (2 * kHalf - 1)) - kHalf;
    out.sum_parts[part][at] = static_cast<int8_t>(low);
    sum = (sum - low) / (2 * kHalf);
  }
  out.sum_parts[2][at] = static_cast<int8_t>(sum);
}

constexpr float kZeros[kGroupColumns] = {};

void QuantizeTokens(const Int8Format& format, int planes, const float* x, int64_t columns,
                    int64_t tokens, int64_t token_begin, int64_t token_end, Int8Group* out) {
  const int64_t block = format.format->block_elements;
  const int parts = format.halves ? 2 : 1;             // of a group
  const float levels = planes == 1 ? 127 : 127 * 256;  // so that both planes have 8 bits
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t c = 0; c < columns; c += block) {
      const float* values = x + t * columns + c;
      const float scale = LargestOf(values, block) / levels;
      const float inverse = scale > FLT_MIN ? 1 / scale : 0;     // else 1 / scale may overflow
      Int8Group* groups = out + c / kGroupColumns * tokens + t;  // of the block
      for (int64_t g = 0; g < block / kGroupColumns; ++g) {
        // A block that is zero or not finite: its scale alone tells.
        const float* from = inverse == 0 ? kZeros : values + g * kGroupColumns;
        int32_t sums[2];
        QuantizeGroup(format, planes, from, scale, inverse, groups[g * tokens], sums);
        if (!format.byte_minima) continue;
        for (int half = 0; half < parts; ++half) {
          const int64_t i = g * parts + half;
          CutSum(sums[half], i % 4, groups[i / 4 * 4 / parts * tokens]);
        }
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
