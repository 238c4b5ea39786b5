// Weight blocks of an f32 scale and float levels, decoded from arranged tiles (see arrange.h), per
// instruction set. To add a format: one struct here and a line in FindScaledBlocks. Layouts:
// engine/format/fp8.cc, bitsandbytes.cc.

#include <array>

#include "engine/format/bitsandbytes_levels.h"
#include "engine/kernels/arrange.h"
#include "engine/kernels/simd-inl.h"

#if defined(TPRUN_SCALED_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_SCALED_BLOCKS_INL_H_
#undef TPRUN_SCALED_BLOCKS_INL_H_
#else
#define TPRUN_SCALED_BLOCKS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

struct ScaledBlocks {
  // `columns`, whole blocks, of a tile's rows to out [columns][kTileRows].
  void (*decode)(const uint8_t* blocks, int64_t columns, float* out);
  // out [kTileRows] += them times x [columns].
  void (*add_products)(const uint8_t* blocks, int64_t columns, const float* x, float* out);
};

// What is a block's scale times kFactor is multiplied by; Load gives the values of a byte of a
// vector of rows.
template <int kBlockColumns>
struct Fp8Values {
  static constexpr int64_t kColumns = kBlockColumns;
  static constexpr int kOfByte = 1;
  static constexpr float kFactor = E4M3Element::kFactor;
  HWY_INLINE void Load(const uint8_t* p, F32Vec (&values)[1]) const {
    values[0] = E4M3Element::LoadShrunk(p);
  }
};

// 64 columns of 4 bits, the first of two in the high nibble.
template <const std::array<float, 16>& kLevels>
struct FourBitValues {
  static constexpr int64_t kColumns = 64;
  static constexpr int kOfByte = 2;
  static constexpr float kFactor = 1;
  static constexpr int kTables = 16 / kLanes;
  F32Vec tables[kTables];

  HWY_INLINE FourBitValues() {
    for (int i = 0; i < kTables; ++i) tables[i] = hn::LoadU(F32Tag(), &kLevels[i * kLanes]);
  }
  HWY_INLINE void Load(const uint8_t* p, F32Vec (&values)[2]) const {
    const hn::Rebind<uint8_t, F32Tag> d8;
    const auto pair = hn::PromoteTo(I32Tag(), hn::LoadU(d8, p));
    values[0] = LevelOf(hn::ShiftRight<4>(pair));
    values[1] = LevelOf(hn::And(pair, hn::Set(I32Tag(), 15)));
  }

 private:
  HWY_INLINE F32Vec LevelOf(hn::Vec<I32Tag> nibble) const {
    const F32Tag d;
    const I32Tag di;
    const auto lane = hn::IndicesFromVec(d, hn::And(nibble, hn::Set(di, kLanes - 1)));
    F32Vec level = hn::TableLookupLanes(tables[0], lane);
    for (int i = 1; i < kTables; ++i) {
      const auto is_here = hn::Gt(nibble, hn::Set(di, i * kLanes - 1));
      level =
          hn::IfThenElse(hn::RebindMask(d, is_here), hn::TableLookupLanes(tables[i], lane), level);
    }
    return level;
  }
};

template <class Values>
HWY_INLINE F32Vec ScaleOfRows(const uint8_t* block, int64_t first) {
  return hn::Mul(F32Element::Load(block + first * sizeof(float)),
                 hn::Set(F32Tag(), Values::kFactor));
}

HWY_INLINE void PrefetchUnit(const uint8_t* p, int64_t unit, int64_t first) {
  constexpr int64_t kAhead = 4096;  // as plain tiles
  if (first == 0 && unit % (64 / kTileRows) == 0) __builtin_prefetch(p + kAhead, 0, 2);
}

template <class Values>
HWY_NOINLINE void DecodeTile(const uint8_t* blocks, int64_t columns, float* HWY_RESTRICT out) {
  constexpr int64_t kBytes = Values::kColumns / Values::kOfByte;
  const F32Tag d;
  const Values reader;
  for (int64_t column = 0; column < columns; column += Values::kColumns) {
    const uint8_t* quants = blocks + kTileRows * sizeof(float);
    for (int64_t first = 0; first < kTileRows; first += kLanes) {
      const F32Vec scale = ScaleOfRows<Values>(blocks, first);
      for (int64_t i = 0; i < kBytes; ++i) {
        const uint8_t* p = quants + i * kTileRows + first;
        PrefetchUnit(p, i, first);
        F32Vec values[Values::kOfByte];
        reader.Load(p, values);
        for (int v = 0; v < Values::kOfByte; ++v) {
          hn::StoreU(hn::Mul(values[v], scale), d,
                     out + (column + i * Values::kOfByte + v) * kTileRows + first);
        }
      }
    }
    blocks = quants + kTileRows * kBytes;
  }
}

// One token: values are not kept, and the scale multiplies the sum of a block once.
template <class Values>
HWY_NOINLINE void AddProductsOfTile(const uint8_t* blocks, int64_t columns, const float* x,
                                    float* HWY_RESTRICT out) {
  constexpr int64_t kBytes = Values::kColumns / Values::kOfByte;
  constexpr int kParts = 4;  // so that sums do not wait for each other
  const F32Tag d;
  const Values reader;
  for (int64_t column = 0; column < columns; column += Values::kColumns) {
    const uint8_t* quants = blocks + kTileRows * sizeof(float);
    for (int64_t first = 0; first < kTileRows; first += kLanes) {
      F32Vec sums[kParts];
      for (F32Vec& sum : sums) sum = hn::Zero(d);
      for (int64_t i = 0; i < kBytes; i += kParts / Values::kOfByte) {
        for (int j = 0; j < kParts / Values::kOfByte; ++j) {
          const uint8_t* p = quants + (i + j) * kTileRows + first;
          PrefetchUnit(p, i + j, first);
          F32Vec values[Values::kOfByte];
          reader.Load(p, values);
          for (int v = 0; v < Values::kOfByte; ++v) {
            const F32Vec element = hn::Set(d, x[column + (i + j) * Values::kOfByte + v]);
            F32Vec& sum = sums[j * Values::kOfByte + v];
            sum = hn::MulAdd(element, values[v], sum);
          }
        }
      }
      const F32Vec sum = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
      const F32Vec scale = ScaleOfRows<Values>(blocks, first);
      hn::StoreU(hn::MulAdd(sum, scale, hn::LoadU(d, out + first)), d, out + first);
    }
    blocks = quants + kTileRows * kBytes;
  }
}

template <class Values>
inline constexpr ScaledBlocks kScaledBlocks = {DecodeTile<Values>, AddProductsOfTile<Values>};

// nullptr where the format is another.
inline const ScaledBlocks* FindScaledBlocks(const WeightFormat& format) {
  if (&format == &kFp8Format) return &kScaledBlocks<Fp8Values<128>>;
  if (&format == &kFp8B32Format) return &kScaledBlocks<Fp8Values<32>>;
  if (&format == &kNf4Format) return &kScaledBlocks<FourBitValues<kNf4Levels>>;
  if (&format == &kFp4Format) return &kScaledBlocks<FourBitValues<kFp4Levels>>;
  return nullptr;
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
