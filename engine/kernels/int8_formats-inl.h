// Weight formats for products with int8 activations: how 32 columns of a vector of rows are taken
// out of an arranged tile (see int8_ops.h). To add a format: one struct here and one line in
// int8_*_cpu.cc. Layouts: engine/format/.

#include "engine/format/level_table.h"
#include "engine/kernels/int8_dot-inl.h"
#include "engine/kernels/int8_ops.h"

#if defined(TPRUN_INT8_FORMATS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_INT8_FORMATS_INL_H_
#undef TPRUN_INT8_FORMATS_INL_H_
#else
#define TPRUN_INT8_FORMATS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// One block of kTileRows rows, seen by the vector of rows from `first_row` on. Offsets are those of
// the unit in the format's own block.
struct TileBlock {
  const uint8_t* data;
  int64_t first_row;

  HWY_INLINE U8Vec Word(int64_t offset) const {
    return hn::LoadU(U8Tag(), data + kTileRows * offset + 4 * first_row);
  }
  // One element of each row.
  template <class Element>
  HWY_INLINE F32Vec Float(int64_t offset) const {
    return Element::Load(data + kTileRows * offset + Element::kBytes * first_row);
  }
  HWY_INLINE F32Vec Half(int64_t offset) const { return Float<F16Element>(offset); }
  HWY_INLINE I32Vec Byte(int64_t offset) const {
    const hn::Rebind<uint8_t, F32Tag> d8;
    return hn::PromoteTo(I32Tag(), hn::LoadU(d8, data + kTileRows * offset + first_row));
  }
};

// How a block is scaled beside its one scale: `scales` of each 32 columns, in `scale_words` words
// of 4 bytes unless the format takes them apart by itself; a minimum of the block (min), or one for
// each group in `min_words` words of 4 bytes.
struct Scaling {
  int scales = 0;
  int scale_words = 0;
  bool min = false;
  int min_words = 0;
};

// What the columns of a block of a vector of rows share, taken apart once for all of them.
template <class F>
struct BlockScales {
  F32Vec d;
  F32Vec min;  // of the block, or what the minima of its groups are multiples of
  U8Vec scales[F::kScaleWords == 0 ? 1 : F::kScaleWords];
  U8Vec mins[F::kMinWords == 0 ? 1 : F::kMinWords];
};

// What formats share: kBlock columns in kBytes bytes, kGroups of 32; kOffset and kMost as in
// Int8Format and WidenedDot.
template <int kBlockColumns, int kBlockBytes, int kOffsetOfU, int kLargest,
          Scaling kScaling = Scaling{}>
struct FormatBase {
  static constexpr int64_t kBlock = kBlockColumns;
  static constexpr int64_t kBytes = kBlockBytes;
  static constexpr int kGroups = kBlockColumns / kGroupColumns;
  static constexpr int kPartsOfGroup = kScaling.scales == 2 ? 2 : 1;
  static constexpr int kSteps = 8 / kPartsOfGroup;
  static constexpr int kOffset = kOffsetOfU;
  static constexpr int kMost = kLargest;
  static constexpr int kScales = kScaling.scales;
  static constexpr int kScaleWords = kScaling.scale_words;
  static constexpr bool kMin = kScaling.min;
  static constexpr int kMinWords = kScaling.min_words;
  static constexpr bool kVaries = false;  // whether blocks of fewer columns are read, too
  static constexpr bool kPairs = false;   // as Int8Format::pairs

  // What most do.
  template <class F>
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<F>& out) {
    out.d = block.Half(0);
    if constexpr (F::kMin) out.min = hn::Neg(block.Half(2));
  }
};

// A part of a vector of rows: the 32 columns of a group, or 16 where halves have scales of their
// own. u[j] has columns 4j to 4j + 3 of each row in a lane. BlockScales::d multiplies the scale.
template <class F>
struct Unpacked {
  U8Vec u[F::kSteps];
  F32Vec scale;
};

HWY_INLINE U8Vec ShiftBytes(U8Vec v, int bits) {  // the bits of other bytes are to be masked off
  return hn::BitCast(
      U8Tag(), hn::Shr(hn::BitCast(U32Tag(), v), hn::Set(U32Tag(), static_cast<uint32_t>(bits))));
}
template <int kBits>
HWY_INLINE U8Vec ShiftBytes(U8Vec v) {
  return hn::BitCast(U8Tag(), hn::ShiftRight<kBits>(hn::BitCast(U32Tag(), v)));
}
template <int kBits>
HWY_INLINE U8Vec ShiftBytesLeft(U8Vec v) {
  return hn::BitCast(U8Tag(), hn::ShiftLeft<kBits>(hn::BitCast(U32Tag(), v)));
}
HWY_INLINE U8Vec Mask(U8Vec v, uint8_t mask) { return hn::And(v, hn::Set(U8Tag(), mask)); }
HWY_INLINE F32Vec ToF32(I32Vec v) { return hn::ConvertTo(F32Tag(), v); }
HWY_INLINE I32Vec MaskI32(I32Vec v, int32_t mask) { return hn::And(v, hn::Set(I32Tag(), mask)); }

// 32 columns of 4 bits in 16 bytes, the low nibbles first.
HWY_INLINE void UnpackNibbles(const TileBlock& block, int64_t offset, U8Vec (&u)[8]) {
  for (int j = 0; j < 4; ++j) {
    const U8Vec pair = block.Word(offset + 4 * j);
    u[j] = Mask(pair, 15);
    u[j + 4] = Mask(ShiftBytes<4>(pair), 15);
  }
}

// A column in each byte, bits `mask` of it from bit `shift` on.
template <int kSteps>
HWY_INLINE void UnpackBits(const TileBlock& block, int64_t offset, int shift, uint8_t mask,
                           U8Vec (&u)[kSteps]) {
  for (int j = 0; j < kSteps; ++j) u[j] = Mask(ShiftBytes(block.Word(offset + 4 * j), shift), mask);
}

// The same, at bit kTo of u.
template <int kTo, int kSteps>
HWY_INLINE void AddBits(const TileBlock& block, int64_t offset, int shift, uint8_t mask,
                        U8Vec (&u)[kSteps]) {
  for (int j = 0; j < kSteps; ++j) {
    const U8Vec bits = Mask(ShiftBytes(block.Word(offset + 4 * j), shift), mask);
    u[j] = hn::Or(u[j], ShiftBytesLeft<kTo>(bits));
  }
}

// The fifth bits of 32 columns, bit i of one word for column i.
HWY_INLINE void AddFifthBits(const TileBlock& block, int64_t offset, U8Vec (&u)[8]) {
  const U8Tag d;
  const U8Vec word = block.Word(offset);
  alignas(16) static constexpr uint8_t kFirst[16] = {0, 0, 0, 0, 4,  4,  4,  4,
                                                     8, 8, 8, 8, 12, 12, 12, 12};
  const U8Vec first = hn::LoadDup128(d, kFirst);
  const U8Vec low = hn::BitCast(d, hn::Set(U32Tag(), 0x08040201u));
  const U8Vec high = hn::BitCast(d, hn::Set(U32Tag(), 0x80402010u));
  for (int j = 0; j < 8; ++j) {
    const U8Vec byte = hn::TableLookupBytes(word, hn::Add(first, hn::Set(d, j / 2)));
    const U8Vec bit = hn::And(byte, j % 2 == 0 ? low : high);
    const auto is_set = hn::Ne(bit, hn::Zero(d));
    u[j] = hn::Or(u[j], hn::IfThenElseZero(is_set, hn::Set(d, 16)));
  }
}

HWY_INLINE void LookUp(const uint8_t (&table)[16], U8Vec (&u)[8]) {
  const U8Vec levels = hn::LoadDup128(U8Tag(), table);
  for (U8Vec& v : u) v = hn::TableLookupBytes(levels, v);
}

// A scale of each group in a signed byte, `at` of 4 to a word, as 2^24 times its value: what is
// fastest to make, and d is divided by it.
inline constexpr float kByteScale = 1.0f / (1 << 24);
template <int kFirst, int kSecond>  // bytes of each word that it goes to; the others are 0
struct ByteOfWords {
  constexpr ByteOfWords() {
    for (int at = 0; at < 4; ++at) {
      for (int i = 0; i < 16; ++i) {
        const bool taken = i % 4 == kFirst || i % 4 == kSecond;
        index[at][i] = static_cast<uint8_t>(taken ? i / 4 * 4 + at : 0x80);
      }
    }
  }
  HWY_INLINE U8Vec operator()(U8Vec words, int at) const {
    return hn::TableLookupBytesOr0(words, hn::LoadDup128(U8Tag(), index[at]));
  }
  alignas(16) uint8_t index[4][16] = {};
};
HWY_INLINE F32Vec ByteScale(U8Vec words, int at) {
  static constexpr ByteOfWords<3, 3> kTop;
  return ToF32(hn::BitCast(I32Tag(), kTop(words, at)));
}
HWY_INLINE F32Vec ByteScaled(F32Vec d) { return hn::Mul(d, hn::Set(F32Tag(), kByteScale)); }

// (low & mask) | high
HWY_INLINE U8Vec MaskOr(U8Vec low, uint8_t mask, U8Vec high) {
  return hn::Or(Mask(low, mask), high);
}

struct Q8_0Int8 : FormatBase<32, 34, 128, 255> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 8}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q8_0Int8>&, int /*group*/,
                                Unpacked<Q8_0Int8>& out) {
    const U8Vec flip = hn::Set(U8Tag(), 0x80);
    for (int j = 0; j < 8; ++j) out.u[j] = hn::Xor(block.Word(2 + 4 * j), flip);
  }
};

struct Q4_0Int8 : FormatBase<32, 18, 8, 15> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q4_0Int8>&, int /*group*/,
                                Unpacked<Q4_0Int8>& out) {
    UnpackNibbles(block, 2, out.u);
  }
};

inline constexpr Scaling kBlockMin = {.min = true};

struct Q4_1Int8 : FormatBase<32, 20, 0, 15, kBlockMin> {
  static constexpr Units kUnits[] = {{2, 2}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q4_1Int8>&, int /*group*/,
                                Unpacked<Q4_1Int8>& out) {
    UnpackNibbles(block, 4, out.u);
  }
};

struct Q5_0Int8 : FormatBase<32, 22, 16, 31> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 5}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q5_0Int8>&, int /*group*/,
                                Unpacked<Q5_0Int8>& out) {
    UnpackNibbles(block, 6, out.u);
    AddFifthBits(block, 2, out.u);
  }
};

struct Q5_1Int8 : FormatBase<32, 24, 0, 31, kBlockMin> {
  static constexpr Units kUnits[] = {{2, 2}, {4, 5}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q5_1Int8>&, int /*group*/,
                                Unpacked<Q5_1Int8>& out) {
    UnpackNibbles(block, 8, out.u);
    AddFifthBits(block, 4, out.u);
  }
};

// kIq4Levels + 128.
alignas(16) inline constexpr uint8_t kIq4Unsigned[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                         129, 141, 153, 166, 181, 197, 217, 241};
static_assert(kIq4Unsigned[0] == kIq4Levels[0] + 128 && kIq4Unsigned[15] == kIq4Levels[15] + 128);

struct Iq4NlInt8 : FormatBase<32, 18, 128, 255> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Iq4NlInt8>&,
                                int /*group*/, Unpacked<Iq4NlInt8>& out) {
    UnpackNibbles(block, 2, out.u);
    LookUp(kIq4Unsigned, out.u);
  }
};

struct Iq4XsInt8 : FormatBase<256, 136, 128, 255, Scaling{.scales = 1}> {
  static constexpr Units kUnits[] = {{2, 1}, {1, 6}, {4, 32}};
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Iq4XsInt8>&, int group,
                                Unpacked<Iq4XsInt8>& out) {
    UnpackNibbles(block, 8 + 16 * group, out.u);
    LookUp(kIq4Unsigned, out.u);
    const auto bits = [&](int offset, int shift, int mask) HWY_ATTR {
      return MaskI32(hn::ShiftRightSame(block.Byte(offset), shift), mask);
    };
    const I32Vec low = bits(4 + group / 2, 4 * (group % 2), 15);
    const I32Vec high = bits(2 + group / 4, 2 * (group % 4), 3);
    const I32Vec scale = hn::Sub(hn::Or(low, hn::ShiftLeft<4>(high)), hn::Set(I32Tag(), 32));
    out.scale = ToF32(scale);
  }
};

struct Mxfp4Int8 : FormatBase<32, 17, 12, 24> {
  static constexpr Units kUnits[] = {{1, 1}, {4, 4}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<Mxfp4Int8>& out) {
    // 2^(e - 128): half of the block's scale, by its bits; subnormal for e below 2.
    const I32Tag d;
    const I32Vec e = block.Byte(0);
    const I32Vec normal = hn::ShiftLeft<23>(hn::Sub(e, hn::Set(d, 1)));
    const I32Vec subnormal = hn::ShiftLeft<21>(hn::Add(e, hn::Set(d, 1)));
    out.d = hn::BitCast(F32Tag(), hn::IfThenElse(hn::Lt(e, hn::Set(d, 2)), subnormal, normal));
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Mxfp4Int8>&,
                                int /*group*/, Unpacked<Mxfp4Int8>& out) {
    // Twice the levels of E2M1, + 12.
    alignas(16) static constexpr uint8_t kLevels[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                        12, 11, 10, 9,  8,  6,  4,  0};
    UnpackNibbles(block, 1, out.u);
    LookUp(kLevels, out.u);
  }
};

// Scales and minima of 6 bits in 12 bytes (engine/format/k_scales.h), for all groups at once.
template <class F>
HWY_INLINE void OpenKScales(const TileBlock& block, BlockScales<F>& out) {
  const U8Vec first = block.Word(4), second = block.Word(8), third = block.Word(12);
  out.d = ByteScaled(block.Half(0));
  out.min = block.Half(2);
  out.scales[0] = Mask(first, 63);
  out.mins[0] = Mask(second, 63);
  out.scales[1] = MaskOr(third, 15, Mask(ShiftBytes<2>(first), 0x30));
  out.mins[1] = MaskOr(ShiftBytes<4>(third), 15, Mask(ShiftBytes<2>(second), 0x30));
}

inline constexpr Scaling kKScales = {.scales = 1, .scale_words = 2, .min_words = 2};

struct Q4_KInt8 : FormatBase<256, 144, 0, 15, kKScales> {
  static constexpr Units kUnits[] = {{2, 2}, {4, 35}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<Q4_KInt8>& out) {
    OpenKScales(block, out);
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q4_KInt8>& scales,
                                int group, Unpacked<Q4_KInt8>& out) {
    UnpackBits(block, 16 + 32 * (group / 2), 4 * (group % 2), 15, out.u);
    out.scale = ByteScale(scales.scales[group / 4], group % 4);
  }
};

struct Q5_KInt8 : FormatBase<256, 176, 0, 31, kKScales> {
  static constexpr Units kUnits[] = {{2, 2}, {4, 43}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<Q5_KInt8>& out) {
    OpenKScales(block, out);
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q5_KInt8>& scales,
                                int group, Unpacked<Q5_KInt8>& out) {
    UnpackBits(block, 48 + 32 * (group / 2), 4 * (group % 2), 15, out.u);
    AddBits<4>(block, 16, group, 1, out.u);
    out.scale = ByteScale(scales.scales[group / 4], group % 4);
  }
};

inline constexpr Scaling kHalfScales = {.scales = 2, .scale_words = 4};

struct Q6_KInt8 : FormatBase<256, 210, 32, 63, kHalfScales> {
  static constexpr Units kUnits[] = {{4, 52}, {2, 1}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<Q6_KInt8>& out) {
    out.d = ByteScaled(block.Half(208));
    for (int i = 0; i < 4; ++i) out.scales[i] = block.Word(192 + 4 * i);
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q6_KInt8>& scales,
                                int part, Unpacked<Q6_KInt8>& out) {
    const int half = part / 8, group = part / 2 % 4, first = 16 * (part % 2);
    UnpackBits(block, 64 * half + 32 * (group % 2) + first, 4 * (group / 2), 15, out.u);
    AddBits<4>(block, 128 + 32 * half + first, 2 * group, 3, out.u);
    out.scale = ByteScale(scales.scales[part / 4], part % 4);
  }
};

struct Q3_KInt8 : FormatBase<256, 110, 4, 7, kHalfScales> {
  static constexpr Units kUnits[] = {{4, 27}, {2, 1}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<Q3_KInt8>& out) {
    const U8Vec first = block.Word(96), second = block.Word(100), high = block.Word(104);
    out.d = ByteScaled(block.Half(108));
    out.scales[0] = MaskOr(first, 15, Mask(ShiftBytesLeft<4>(high), 0x30));
    out.scales[1] = MaskOr(second, 15, Mask(ShiftBytesLeft<2>(high), 0x30));
    out.scales[2] = MaskOr(ShiftBytes<4>(first), 15, Mask(high, 0x30));
    out.scales[3] = MaskOr(ShiftBytes<4>(second), 15, Mask(ShiftBytes<2>(high), 0x30));
    for (U8Vec& scales : out.scales) scales = hn::Sub(scales, hn::Set(U8Tag(), 32));
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q3_KInt8>& scales,
                                int part, Unpacked<Q3_KInt8>& out) {
    const int group = part / 2, first = 16 * (part % 2);
    UnpackBits(block, 32 + 32 * (group / 4) + first, 2 * (group % 4), 3, out.u);
    AddBits<2>(block, first, group, 1, out.u);
    out.scale = ByteScale(scales.scales[part / 4], part % 4);
  }
};

// The scales, of 4 bits, are multiplied into the 2 bits of each value: at most 45.
struct Q2_KInt8 : FormatBase<256, 84, 0, 45, Scaling{.scale_words = 4, .min_words = 4}> {
  static constexpr Units kUnits[] = {{4, 20}, {2, 2}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<Q2_KInt8>& out) {
    out.d = block.Half(80);
    out.min = block.Half(82);
    for (int i = 0; i < 4; ++i) {
      const U8Vec both = block.Word(4 * i);
      out.scales[i] = Mask(both, 15);
      out.mins[i] = Mask(ShiftBytes<4>(both), 15);
    }
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<Q2_KInt8>& scales,
                                int group, Unpacked<Q2_KInt8>& out) {
    static constexpr ByteOfWords<0, 2> kTwice;
    const U16Tag d16;
    UnpackBits(block, 16 + 32 * (group / 4), 2 * (group % 4), 3, out.u);
    for (int i = 0; i < 2; ++i) {
      const auto twice = hn::BitCast(d16, kTwice(scales.scales[group / 2], 2 * (group % 2) + i));
      for (int j = 4 * i; j < 4 * i + 4; ++j) {
        out.u[j] = hn::BitCast(U8Tag(), hn::Mul(hn::BitCast(d16, out.u[j]), twice));
      }
    }
  }
};

// Groups of integers (engine/format/int_groups.h) of up to 128 columns; a symmetric quantiser's
// zero is the offset, so that it leaves no minimum.
template <int kBits, class Scale>
struct IntGroupInt8 : FormatBase<128, Scale::kBytes + 1 + 16 * kBits, 1 << (kBits - 1),
                                 (1 << kBits) - 1, kBlockMin> {
  static constexpr bool kVaries = true;
  static constexpr bool kPairs = kBits == 4;
  template <int kColumns>
  static constexpr Units kUnits[] = {{Scale::kBytes, 1}, {1, 1}, {4, kColumns* kBits / 32}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<IntGroupInt8>& out) {
    const I32Vec zero = block.Byte(Scale::kBytes);
    out.d = block.Float<Scale>(0);
    out.min = hn::Mul(out.d, ToF32(hn::Sub(zero, hn::Set(I32Tag(), 1 << (kBits - 1)))));
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<IntGroupInt8>&, int group,
                                Unpacked<IntGroupInt8>& out) {
    const int64_t first = Scale::kBytes + 1 + 4 * kBits * group;
    if constexpr (kBits == 4) {
      for (int j = 0; j < 4; ++j) {
        const U8Vec pair = block.Word(first + 4 * j);
        out.u[2 * j] = Mask(pair, 15);
        out.u[2 * j + 1] = Mask(ShiftBytes<4>(pair), 15);
      }
    } else {
      for (int j = 0; j < 8; ++j) out.u[j] = block.Word(first + 4 * j);
    }
  }
};

struct BnbInt8 : FormatBase<64, 68, 128, 255> {
  static constexpr Units kUnits[] = {{4, 1}, {4, 16}};
  static HWY_INLINE void Open(const TileBlock& block, BlockScales<BnbInt8>& out) {
    out.d = hn::Mul(block.Float<F32Element>(0), hn::Set(F32Tag(), 1.0f / 127));
  }
  static HWY_INLINE void Unpack(const TileBlock& block, const BlockScales<BnbInt8>&, int group,
                                Unpacked<BnbInt8>& out) {
    const U8Vec flip = hn::Set(U8Tag(), 0x80);
    for (int j = 0; j < 8; ++j) out.u[j] = hn::Xor(block.Word(4 + 32 * group + 4 * j), flip);
  }
};

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
