// Products of quantised weights with rounded activations, a tile of rows at a time. 32 columns of a
// vector of rows are unpacked and met with one token after another: those of few tokens in
// registers, which the bandwidth of the weights bounds, panels of them in L1 for many, where
// unpacking is repaid by the tokens and the dot products are the bound.

#include <algorithm>
#include <cstring>

#include "engine/kernels/cpu_features.h"
#include "engine/kernels/int8_products-inl.h"

#if defined(TPRUN_INT8_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_INT8_TILES_INL_H_
#undef TPRUN_INT8_TILES_INL_H_
#else
#define TPRUN_INT8_TILES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

constexpr int kVectorsOfTile = kTileRows / kLanes;
// Vectors of rows that share the loads of activations, where there are registers for them.
constexpr int kMostVectors = kLanes == 16 ? 2 : 1;
constexpr int64_t kPairsFrom = 9;  // tokens; one stream of weights is read faster than two
// How far ahead of a block's first line those of a later one are asked for, all at once: left to
// the hardware, or asked for group by group, the lines of q4_k and q6_k come at half the rate to
// two thirds of it (Zen 5; of 2 to 16 KiB, 4 to 8 are alike).
constexpr int64_t kAhead = 6144;

// Sums of many tokens, in L1: [tokens][kMostVectors][kLanes].
HWY_INLINE int64_t SumsAt(int v, int64_t t) { return (t * kMostVectors + v) * kLanes; }

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

  // A part of the block that was opened last.
  HWY_INLINE void Unpack(int part, const BlockScales<F> (&scales)[kVectors],
                         Unpacked<F> (&out)[kVectors]) const {
    for (int v = 0; v < kVectors; ++v) F::Unpack(at_[v], scales[v], part, out[v]);
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

// Where block `block` of a panel begins.
template <class F>
HWY_INLINE int FirstGroup(int block, int groups) {
  return F::kGroups == kPanelGroups ? 0 : block * groups;
}

// body(panel, its first block, blocks) for each panel of a row.
template <class Body>
HWY_INLINE void ForPanels(int64_t blocks, int groups, const Body& body) {
  const int64_t most = kPanelGroups / groups;
  int64_t panel = 0;
  for (int64_t first = 0; first < blocks; first += most, ++panel) {
    body(panel, first, static_cast<int>(std::min(most, blocks - first)));
  }
}

// One vector of rows for kTokens tokens, whose sums stay in registers.
template <class F, class Dot, int kPlanes, int kTokens>
HWY_NOINLINE void MultiplyFew(const Int8Problem& p, int64_t vector, int64_t token,
                              float* HWY_RESTRICT out) {
  const F32Tag d;
  F32Vec sums[kTokens][1];
  for (auto& sum : sums) sum[0] = hn::Zero(d);
  TileBlocks<F, 1> tiles(p, vector);
  const int groups = tiles.groups();
  ForPanels(tiles.blocks(), groups, [&](int64_t panel, int64_t first, int blocks) TPRUN_INLINE {
    const Int8Panel* x = p.x + panel * p.tokens + token;
    for (int block = 0; block < blocks; ++block) {
      BlockScales<F> scales[1];
      tiles.Open(first + block, scales);
      Partial<F> partial[kTokens][1];
      const auto weights = [&](int part, const auto& use) TPRUN_INLINE {
        Unpacked<F> w[1];
        tiles.Unpack(part, scales, w);
        use(w);
      };
      AddBlock<F, Dot, kPlanes>(x, FirstGroup<F>(block, groups), groups, weights, partial);
      FinishBlock<F, Dot, kPlanes>(scales, x, FirstGroup<F>(block, groups), groups, partial, sums);
    }
  });
  for (int t = 0; t < kTokens; ++t) hn::Store(sums[t][0], d, out + SumsAt(0, t));
}

// Calls body(token, constant of how many) until all tokens are done, as many at a time as share the
// loads of weights best: so many that the registers just hold their sums, which hide each other's
// latency. The last may be more than are left.
template <int kVectors, class Body>
HWY_INLINE void ForTokens(int64_t tokens, const Body& body) {
  constexpr int kMost = kVectors == 2 ? 6 : kLanes < 16 ? 2 : 4;
  for (int64_t t = 0; t < tokens;) {
    const int64_t left = tokens - t;
    if (kMost == 6 && (left < 5 || left == 8)) {
      body(t, std::integral_constant<int, 4>());
      t += 4;
    } else {
      body(t, std::integral_constant<int, kMost>());
      t += kMost;
    }
  }
}

// A panel of kVectors vectors of rows, unpacked once for many tokens, in L1.
template <class F, int kVectors>
struct UnpackedPanel {
  static constexpr int kMostBlocks = F::kVaries ? kPanelGroups : kPanelGroups / F::kGroups;
  Unpacked<F> parts[kPanelGroups * F::kPartsOfGroup][kVectors];
  BlockScales<F> scales[kMostBlocks][kVectors];
};

// sums += a panel of `blocks` blocks of `groups` groups for kTokens tokens.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens>
HWY_INLINE void AddPanel(const UnpackedPanel<F, kVectors>& w, int blocks, int groups,
                         const Int8Panel* x, float* HWY_RESTRICT to) {
  const F32Tag d;
  F32Vec sums[kTokens][kVectors];
  ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
    ForEach<Dot, kVectors>([&](auto v)
                               TPRUN_INLINE { sums[t][v] = hn::Load(d, to + SumsAt(v, t)); });
  });
#pragma GCC unroll 1
  for (int block = 0; block < blocks; ++block) {
    Partial<F> partial[kTokens][kVectors];
    const auto* parts = w.parts + block * groups * F::kPartsOfGroup;
    const auto weights = [&](int part, const auto& use) TPRUN_INLINE { use(parts[part]); };
    AddBlock<F, Dot, kPlanes>(x, FirstGroup<F>(block, groups), groups, weights, partial);
    FinishBlock<F, Dot, kPlanes>(w.scales[block], x, FirstGroup<F>(block, groups), groups, partial,
                                 sums);
  }
  ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
    ForEach<Dot, kVectors>([&](auto v)
                               TPRUN_INLINE { hn::Store(sums[t][v], d, to + SumsAt(v, t)); });
  });
}

// kVectors vectors of rows (see TileBlocks) for many tokens; adds to sums.
template <class F, class Dot, int kPlanes, int kVectors>
HWY_NOINLINE void MultiplyMany(const Int8Problem& p, int64_t vector, int64_t token_begin,
                               int64_t tokens, float* HWY_RESTRICT sums) {
  TileBlocks<F, kVectors> tiles(p, vector);
  const int groups = tiles.groups();
  UnpackedPanel<F, kVectors> w;
  ForPanels(tiles.blocks(), groups, [&](int64_t panel, int64_t first, int blocks) TPRUN_INLINE {
    for (int block = 0; block < blocks; ++block) {
      tiles.Open(first + block, w.scales[block]);
      const int parts = groups * F::kPartsOfGroup;
#pragma GCC unroll 1
      for (int part = 0; part < parts; ++part) {
        tiles.Unpack(part, w.scales[block], w.parts[block * parts + part]);
      }
    }
    const Int8Panel* x = p.x + panel * p.tokens + token_begin;
    ForTokens<kVectors>(tokens, [&](int64_t t, auto count) TPRUN_INLINE {
      AddPanel<F, Dot, kPlanes, kVectors, count()>(w, blocks, groups, x + t, sums + SumsAt(0, t));
    });
  });
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
    const F32Vec sum = hn::Add(hn::Load(d, sums + SumsAt(0, t)), bias);
    if (rows == kLanes) {
      hn::StoreU(sum, d, out);
    } else {
      StoreFloats(sum, out, rows);
    }
  }
}

// kVectors vectors of rows for all tokens of a part; adds to sums.
template <class F, class Dot, int kPlanes>
HWY_INLINE void MultiplyOne(const Int8Problem& p, int64_t vector, int64_t token, int64_t tokens,
                            float* sums) {
  if (tokens == 1) return MultiplyFew<F, Dot, kPlanes, 1>(p, vector, token, sums);
  if constexpr (Dot::kFew) {
    for (int64_t t = 0; t < tokens;) {
      const int64_t left = tokens - t;
      float* to = sums + SumsAt(0, t);
      if (left >= 5) {
        MultiplyFew<F, Dot, kPlanes, 8>(p, vector, token + t, to);
        t += 8;
      } else if (left >= 3) {
        MultiplyFew<F, Dot, kPlanes, 4>(p, vector, token + t, to);
        t += 4;
      } else {
        MultiplyFew<F, Dot, kPlanes, 2>(p, vector, token + t, to);
        t += 2;
      }
    }
  } else {
    std::fill_n(sums, SumsAt(0, tokens), 0.0f);
    MultiplyMany<F, Dot, kPlanes, 1>(p, vector, token, tokens, sums);
  }
}

template <class F, class Dot, int kPlanes>
HWY_NOINLINE void MultiplyTiles(const Int8Problem& p, const Int8Part& part, float* sums) {
  const int64_t tokens = part.token_end - part.token_begin;
  const int64_t end = std::min(part.tile_end * kVectorsOfTile,  // vectors
                               (p.w.rows + kLanes - 1) / kLanes);
  const int64_t full_end = std::min(end, p.w.rows / kTileRows * kVectorsOfTile);
  for (int64_t first = part.tile_begin * kVectorsOfTile; first < end;) {
    const bool several = tokens >= kPairsFrom && first + kMostVectors <= full_end;
    const int vectors = several ? kMostVectors : 1;
    if (several) {
      std::fill_n(sums, SumsAt(0, tokens), 0.0f);
      MultiplyMany<F, Dot, kPlanes, kMostVectors>(p, first, part.token_begin, tokens, sums);
    } else {
      MultiplyOne<F, Dot, kPlanes>(p, first, part.token_begin, tokens, sums);
    }
    for (int v = 0; v < vectors; ++v) {
      StoreSums(p, first + v, part.token_begin, tokens, sums + SumsAt(v, 0));
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
template <int kCount>
HWY_INLINE const Int8Format* FindIn(const Int8Format (&formats)[kCount],
                                    const WeightFormat& format) {
  for (const Int8Format& known : formats) {
    if (known.format == &format) return &known;
  }
  return nullptr;
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
