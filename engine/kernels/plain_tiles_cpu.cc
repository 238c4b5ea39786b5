// Products with plain weights in tiles: outer products of a vector of rows with the elements of
// several tokens, whose sums stay in registers over a block of columns.

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/plain_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/plain_tiles_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/scaled_blocks-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

std::vector<Units> PlainUnits(const WeightFormat& /*format*/, int64_t /*columns*/) { return {}; }
void MultiplyPlainTiles(const PlainProblem&, int64_t, int64_t, float*) {}
void RoundToPairs(const float*, int64_t, uint32_t*) {}
void InterleaveGroups(const uint32_t* const*, int64_t, int64_t, int64_t, uint32_t*) {}
int64_t MostPlainTokens() { return 1; }

#else

constexpr int kVectorsOfTile = kTileRows / kLanes;
// kMostTokens x 2 sums, the weights of a unit and one activation fit the registers.
constexpr int kMostTokens = kLanes == 16 ? 12 : 4;
// How far ahead of its use a line is asked for, into L2.
constexpr int64_t kAhead = 4096;

std::vector<Units> PlainUnits(const WeightFormat& format, int64_t columns) {
  if (&format == &kBF16Format) return {{4, columns / 2}, {2, columns % 2}};
  if (&format == &kF16Format) return {{2, columns}};
  if (&format == &kF32Format) return {{4, columns}};
  if (FindScaledBlocks(format) == nullptr) return {};
  std::vector<Units> units;
  for (int64_t column = 0; column < columns; column += format.block_elements) {
    units.push_back({4, 1});
    units.push_back({1, format.block_bytes - 4});
  }
  return units;
}

// How a unit of a tile is met. kTerms products of a unit: Load gives the weights of a vector of
// rows, Broadcast one element of x, which has kTerms per unit. LoadLast: a last unit of half the
// columns, met with the first term alone.
template <class Element>
struct Single {
  static constexpr int kColumns = 1, kTerms = 1;
  static constexpr int64_t kBytes = Element::kBytes;
  using X = float;
  static HWY_INLINE void Load(const uint8_t* p, F32Vec (&w)[1]) { w[0] = Element::Load(p); }
  static HWY_INLINE F32Vec Broadcast(float x) { return hn::Set(F32Tag(), x); }
  static HWY_INLINE F32Vec MulAdd(F32Vec x, F32Vec w, F32Vec sum) { return hn::MulAdd(x, w, sum); }
};

struct Bf16Pairs {
  static constexpr int kColumns = 2, kTerms = 2;
  static constexpr int64_t kBytes = 4;
  using X = float;
  static HWY_INLINE void Load(const uint8_t* p, F32Vec (&w)[2]) {
    const U32Tag d;
    const auto pairs = hn::LoadU(d, reinterpret_cast<const uint32_t*>(p));
    w[0] = hn::BitCast(F32Tag(), hn::ShiftLeft<16>(pairs));
    w[1] = hn::BitCast(F32Tag(), hn::And(pairs, hn::Set(d, 0xffff0000u)));
  }
  static HWY_INLINE F32Vec LoadLast(const uint8_t* p) { return BF16ToF32(p); }
  static HWY_INLINE F32Vec Broadcast(float x) { return hn::Set(F32Tag(), x); }
  static HWY_INLINE F32Vec MulAdd(F32Vec x, F32Vec w, F32Vec sum) { return hn::MulAdd(x, w, sum); }
};

#if HWY_TARGET == HWY_AVX3
// AVX-512 BF16, which Highway's target does not include: asked for at run time.
struct Bf16Dot {
  static constexpr int kColumns = 2, kTerms = 1;
  static constexpr int64_t kBytes = 4;
  using X = uint32_t;
  static HWY_INLINE void Load(const uint8_t* p, F32Vec (&w)[1]) {
    w[0] = hn::LoadU(F32Tag(), reinterpret_cast<const float*>(p));
  }
  static HWY_INLINE F32Vec LoadLast(const uint8_t* p) {
    const hn::Rebind<uint16_t, F32Tag> d16;
    const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
    return hn::BitCast(F32Tag(), hn::PromoteTo(U32Tag(), bits));
  }
  static HWY_INLINE F32Vec Broadcast(uint32_t x) {
    return hn::BitCast(F32Tag(), hn::Set(U32Tag(), x));
  }
  static HWY_INLINE F32Vec MulAdd(F32Vec x, F32Vec w, F32Vec sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "v"(x.raw));
    return sum;
  }
};
#endif

// A vector of rows of a tile: from its row `first` on; `data` is at the first column to be met.
struct Rows {
  const uint8_t* data;
  int64_t first;
};

// One unit of kVectors vectors of rows, met with kTokens tokens whose elements of it begin at x.
template <class W, int kParts, int kTokens, int kVectors>
HWY_INLINE void AddUnit(const Rows (&w)[kVectors], int64_t unit, int first_part,
                        const typename W::X* HWY_RESTRICT x,
                        F32Vec (&sums)[kParts][kTokens][kVectors]) {
  F32Vec weights[kVectors][W::kTerms];
  for (int v = 0; v < kVectors; ++v) {
    const uint8_t* p = w[v].data + unit * kTileRows * W::kBytes + w[v].first * W::kBytes;
    if (kTokens <= 8 && kVectors == 1) __builtin_prefetch(p + kAhead, 0, 2);
    W::Load(p, weights[v]);
  }
  for (int i = 0; i < W::kTerms; ++i) {
    for (int t = 0; t < kTokens; ++t) {
      const F32Vec element = W::Broadcast(x[i * kTokens + t]);
      for (int v = 0; v < kVectors; ++v) {
        F32Vec& sum = sums[(first_part + i) % kParts][t][v];
        sum = W::MulAdd(element, weights[v][i], sum);
      }
    }
  }
}

// The sums of kTokens tokens with kVectors vectors of rows go on in `out` over `columns` columns.
// Few sums are kept in several parts, so that they do not wait for each other.
template <class W, int kTokens, int kVectors>
HWY_INLINE void Outer(const Rows (&w)[kVectors], int64_t columns,
                      const typename W::X* HWY_RESTRICT x, float* HWY_RESTRICT out,
                      int64_t out_stride) {
  constexpr int kParts = kTokens * kVectors > 6 ? 1 : kTokens * kVectors > 1 ? 2 : 4;
  constexpr int kUnits = kParts > W::kTerms ? kParts / W::kTerms : 1;  // at a time
  constexpr int64_t kUnitBytes = kTileRows * W::kBytes;
  const F32Tag d;
  F32Vec sums[kParts][kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      sums[0][t][v] = hn::LoadU(d, out + t * out_stride + v * kLanes);
      for (int part = 1; part < kParts; ++part) sums[part][t][v] = hn::Zero(d);
    }
  }
  const int64_t units = columns / W::kColumns;
  int64_t unit = 0;
  for (; unit + kUnits <= units; unit += kUnits) {
    for (int i = 0; i < kUnits; ++i) {
      AddUnit<W>(w, unit + i, i * W::kTerms, x + (unit + i) * W::kTerms * kTokens, sums);
    }
  }
  for (; unit < units; ++unit) AddUnit<W>(w, unit, 0, x + unit * W::kTerms * kTokens, sums);
  if constexpr (W::kColumns > 1) {
    if (columns % W::kColumns != 0) {
      for (int v = 0; v < kVectors; ++v) {
        const F32Vec weights =
            W::LoadLast(w[v].data + units * kUnitBytes + w[v].first * W::kBytes / 2);
        for (int t = 0; t < kTokens; ++t) {
          const F32Vec element = W::Broadcast(x[units * W::kTerms * kTokens + t]);
          sums[0][t][v] = W::MulAdd(element, weights, sums[0][t][v]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      F32Vec sum = sums[0][t][v];
      for (int part = 1; part < kParts; ++part) sum = hn::Add(sum, sums[part][t][v]);
      hn::StoreU(sum, d, out + t * out_stride + v * kLanes);
    }
  }
}

// Calls body(integral_constant of its tokens, first token) for each group of tokens.
template <class Body>
HWY_INLINE void ForGroups(int64_t tokens, const Body& body) {
  int64_t t = 0;
  const auto run = [&](auto size) HWY_ATTR {
    for (; t + size() <= tokens; t += size()) body(size, t);
  };
  run(std::integral_constant<int, kMostTokens>());
  if constexpr (kMostTokens > 8) run(std::integral_constant<int, 8>());
  if constexpr (kMostTokens > 4) run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

// kVectors vectors of rows, for all tokens and columns of one block, of which x has some `before`.
template <class W, int kVectors>
HWY_NOINLINE void AllTokens(const Rows (&w)[kVectors], int64_t before, int64_t columns,
                            const PackedTokens& x, const typename W::X* first, float* out,
                            int64_t out_stride) {
  ForGroups(x.tokens, [&](auto size, int64_t t) HWY_ATTR {
    constexpr int kTokens = decltype(size)::value;
    const auto* elements =
        first + t * x.block_elements + before / W::kColumns * W::kTerms * kTokens;
    Outer<W, kTokens, kVectors>(w, columns, elements, out + t * out_stride, out_stride);
  });
}

// Where a tile's sums are formed: in out, or for a last one of fewer rows beside it.
struct TileTarget {
  const uint8_t* data;  // of kTileRows rows
  float* out;
  int64_t out_stride;
};

// Columns of one block of x.
struct Columns {
  int64_t first;
  int64_t count;
};

// Tiles whose sums lie beside each other, or one; their data is at the first of the columns.
template <class W>
void MultiplyColumns(const PackedTokens& x, Columns columns, const TileTarget* tiles,
                     int64_t count) {
  const int64_t block = columns.first / x.block_columns;
  const int64_t before = columns.first % x.block_columns;
  const auto* of_block =
      static_cast<const typename W::X*>(x.data) + block * x.tokens * x.block_elements;
  const auto rows = [&](int64_t vector) -> Rows {
    return {tiles[vector / kVectorsOfTile].data, vector % kVectorsOfTile * kLanes};
  };
  const int64_t vectors = count * kVectorsOfTile, stride = tiles[0].out_stride;
  // One stream of weights is read faster than two.
  const int64_t step = x.tokens > kFewTokens && vectors >= 2 ? 2 : 1;
  for (int64_t v = 0; v < vectors; v += step) {
    float* out = tiles[0].out + v * kLanes;
    if (step == 2) {
      AllTokens<W, 2>({rows(v), rows(v + 1)}, before, columns.count, x, of_block, out, stride);
    } else {
      AllTokens<W, 1>({rows(v)}, before, columns.count, x, of_block, out, stride);
    }
  }
}

// Weights that are met as they lie.
template <class W>
struct AsTheyLie {
  void operator()(const PlainProblem& p, Columns columns, const TileTarget* tiles,
                  int64_t count) const {
    TileTarget at[2];
    for (int64_t i = 0; i < count; ++i) {
      at[i] = tiles[i];
      at[i].data += columns.first / W::kColumns * kTileRows * W::kBytes;
    }
    MultiplyColumns<W>(p.x, columns, at, count);
  }
};

// Weights that are decoded to f32 tiles first: so few columns at a time that those stay in L1.
struct Decoded {
  static constexpr int64_t kColumns = 128;
  const ScaledBlocks* blocks;

  void operator()(const PlainProblem& p, Columns columns, const TileTarget* tiles,
                  int64_t count) const {
    if (p.x.tokens == 1) return AddToken(p, columns, tiles, count);
    HWY_ALIGN float values[2][kColumns * kTileRows];
    const int64_t end = columns.first + columns.count;
    for (int64_t column = columns.first; column < end; column += kColumns) {
      const int64_t some = std::min(kColumns, end - column);
      TileTarget at[2];
      for (int64_t i = 0; i < count; ++i) {
        blocks->decode(tiles[i].data + kTileRows * p.w.format->Bytes(column), some, values[i]);
        at[i] = tiles[i];
        at[i].data = reinterpret_cast<const uint8_t*>(values[i]);
      }
      MultiplyColumns<Single<F32Element> >(p.x, {column, some}, at, count);
    }
  }

  void AddToken(const PlainProblem& p, Columns columns, const TileTarget* tiles,
                int64_t count) const {
    const auto* x = static_cast<const float*>(p.x.data) + columns.first;
    for (int64_t i = 0; i < count; ++i) {
      blocks->add_products(tiles[i].data + kTileRows * p.w.format->Bytes(columns.first),
                           columns.count, x, tiles[i].out);
    }
  }
};

void StartSums(const PlainProblem& p, int64_t tile, const TileTarget& target) {
  const int64_t row = tile * kTileRows, rows = std::min(kTileRows, p.w.rows - row);
  for (int64_t t = 0; t < p.x.tokens; ++t) {
    float* out = target.out + t * target.out_stride;
    if (p.bias != nullptr) {
      std::copy_n(p.bias + row, rows, out);
    } else {
      std::fill(out, out + rows, 0.0f);
    }
  }
}

template <class Meet>
void Multiply(const PlainProblem& p, const Meet& meet, int64_t begin, int64_t end, float* scratch) {
  const int64_t row_bytes = p.w.format->Bytes(p.w.columns);
  const auto* data = static_cast<const uint8_t*>(p.w.data);
  const int64_t full = p.w.rows / kTileRows, left = p.w.rows % kTileRows;
  TileTarget last = {nullptr, scratch, kTileRows};
  if (end > full) {
    auto* spread = reinterpret_cast<uint8_t*>(scratch + p.x.tokens * kTileRows);
    std::memset(spread, 0, kTileRows * row_bytes);
    SpreadBlock(PlainUnits(*p.w.format, p.w.columns), data + full * kTileRows * row_bytes, left,
                spread);
    std::fill(scratch, scratch + p.x.tokens * kTileRows, 0.0f);
    last.data = spread;
  }
  const auto target = [&](int64_t tile) -> TileTarget {
    if (tile == full) return last;
    return {data + tile * kTileRows * row_bytes, p.out + tile * kTileRows, p.out_stride};
  };
  for (int64_t tile = begin; tile < end; ++tile) StartSums(p, tile, target(tile));
  for (int64_t column = 0; column < p.w.columns; column += p.x.block_columns) {
    const Columns columns = {column, std::min(p.x.block_columns, p.w.columns - column)};
    for (int64_t tile = begin; tile < end;) {
      const int64_t count = tile + 2 <= std::min(end, full) ? 2 : 1;
      const TileTarget tiles[] = {target(tile), target(tile + count - 1)};
      meet(p, columns, tiles, count);
      tile += count;
    }
  }
  if (end <= full) return;
  for (int64_t t = 0; t < p.x.tokens; ++t) {
    std::copy_n(scratch + t * kTileRows, left, p.out + t * p.out_stride + full * kTileRows);
  }
}

void MultiplyPlainTiles(const PlainProblem& p, int64_t begin, int64_t end, float* scratch) {
  const auto run = [&](const auto& meet) HWY_ATTR { Multiply(p, meet, begin, end, scratch); };
  if (p.w.format == &kF32Format) return run(AsTheyLie<Single<F32Element> >());
  if (p.w.format == &kF16Format) return run(AsTheyLie<Single<F16Element> >());
  if (const auto* blocks = FindScaledBlocks(*p.w.format)) return run(Decoded{blocks});
#if HWY_TARGET == HWY_AVX3
  if (p.x.bf16) return run(AsTheyLie<Bf16Dot>());
#endif
  run(AsTheyLie<Bf16Pairs>());
}

// To bf16, to the nearest, ties to even; NaN stays NaN. Pairs of columns, a last one with a zero.
void RoundToPairs(const float* x, int64_t columns, uint32_t* out) {
  const F32Tag d;
  const U32Tag du;
  const hn::RepartitionToWide<U32Tag> d64;
  const hn::Rebind<uint32_t, decltype(d64)> d_pairs;
  const auto round = [&](F32Vec v) HWY_ATTR {
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
    const auto nan = hn::Or(bits, hn::Set(du, 0x400000));
    const auto both =
        hn::BitCast(d64, hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), nan, rounded));
    return hn::Or(hn::And(hn::ShiftRight<16>(both), hn::Set(d64, 0xffff)),
                  hn::And(hn::ShiftRight<32>(both), hn::Set(d64, 0xffff0000)));
  };
  int64_t c = 0;
  for (; c + kLanes <= columns; c += kLanes) {
    hn::StoreU(hn::TruncateTo(d_pairs, round(hn::LoadU(d, x + c))), d_pairs, out + c / 2);
  }
  if (c == columns) return;
  HWY_ALIGN uint32_t last[kLanes];
  hn::StoreU(hn::TruncateTo(d_pairs, round(LoadFloats(x + c, columns - c))), d_pairs, last);
  std::copy_n(last, (columns - c + 1) / 2, out + c / 2);
}

void InterleaveGroups(const uint32_t* const* rows, int64_t tokens, int64_t count,
                      int64_t block_elements, uint32_t* out) {
  ForGroups(tokens, [&](auto size, int64_t t) HWY_ATTR {
    constexpr int kTokens = decltype(size)::value;
    uint32_t* to = out + t * block_elements;
    for (int64_t i = 0; i < count; ++i) {
      for (int j = 0; j < kTokens; ++j) *to++ = rows[t + j][i];
    }
  });
}

int64_t MostPlainTokens() { return kMostTokens; }

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(PlainUnits);
HWY_EXPORT(MultiplyPlainTiles);
HWY_EXPORT(RoundToPairs);
HWY_EXPORT(InterleaveGroups);
HWY_EXPORT(MostPlainTokens);

std::vector<Units> PlainUnits(const WeightFormat& format, int64_t columns) {
  return HWY_DYNAMIC_DISPATCH(PlainUnits)(format, columns);
}
int64_t PlainScratchFloats(int64_t tokens, int64_t columns) {
  return tokens * kTileRows + columns * kTileRows;
}
void MultiplyPlainTiles(const PlainProblem& problem, int64_t tile_begin, int64_t tile_end,
                        float* scratch) {
  HWY_DYNAMIC_DISPATCH(MultiplyPlainTiles)(problem, tile_begin, tile_end, scratch);
}
void RoundToPairs(const float* x, int64_t columns, uint32_t* out) {
  HWY_DYNAMIC_DISPATCH(RoundToPairs)(x, columns, out);
}
void InterleaveGroups(const uint32_t* const* rows, int64_t tokens, int64_t count,
                      int64_t block_elements, uint32_t* out) {
  HWY_DYNAMIC_DISPATCH(InterleaveGroups)(rows, tokens, count, block_elements, out);
}
int64_t MostPlainTokens() { return HWY_DYNAMIC_DISPATCH(MostPlainTokens)(); }

}  // namespace tprun::cpu
#endif  // HWY_ONCE
