// Weight formats for products with int8 activations: how 32 columns of a vector of rows are taken
// out of an arranged tile (see int8_ops.h). To add a format: one struct here and one line in
// int8_matmul_cpu.cc. Layouts: engine/format/.

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
  HWY_INLINE I32Vec SignedByte(int64_t offset) const {
    const hn::Rebind<int8_t, F32Tag> d8;
    const auto* p = reinterpret_cast<const int8_t*>(data + kTileRows * offset + first_row);
    return hn::PromoteTo(I32Tag(), hn::LoadU(d8, p));
  }
};

// 32 columns of a vector of rows: u[j] has columns 4j to 4j + 3 of each row in a lane. Scales and
// mins of the columns, or of each half of them.
template <class F>
struct Unpacked {
  U8Vec u[8];
  F32Vec scale[F::kScales];
  F32Vec min[F::kMins == 0 ? 1 : F::kMins];
};

// What formats share: kBlock columns in kBytes bytes; kOffset and kMost as in Int8Format and
// WidenedDot; kScales and kMins of 32 columns.
template <int kBlockColumns, int kBlockBytes, int kOffsetOfU, int kLargest, int kScalesOf32 = 1,
          int kMinsOf32 = 0>
struct FormatBase {
  static constexpr int64_t kBlock = kBlockColumns;
  static constexpr int64_t kBytes = kBlockBytes;
  static constexpr int kOffset = kOffsetOfU;
  static constexpr int kMost = kLargest;
  static constexpr int kScales = kScalesOf32;
  static constexpr int kMins = kMinsOf32;
  static constexpr bool kVaries = false;  // whether blocks of fewer columns are read, too
  static constexpr bool kPairs = false;   // as Int8Format::pairs
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

// 32 columns in 32 bytes, `bits` of each byte from bit `shift` on.
HWY_INLINE void UnpackBits(const TileBlock& block, int64_t offset, int shift, uint8_t mask,
                           U8Vec (&u)[8]) {
  for (int j = 0; j < 8; ++j) u[j] = Mask(ShiftBytes(block.Word(offset + 4 * j), shift), mask);
}

// The same, at bit kTo of u.
template <int kTo>
HWY_INLINE void AddBits(const TileBlock& block, int64_t offset, int shift, uint8_t mask,
                        U8Vec (&u)[8]) {
  for (int j = 0; j < 8; ++j) {
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

struct Q8_0Int8 : FormatBase<32, 34, 128, 255> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 8}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Q8_0Int8>& out) {
    const U8Vec flip = hn::Set(U8Tag(), 0x80);
    for (int j = 0; j < 8; ++j) out.u[j] = hn::Xor(block.Word(2 + 4 * j), flip);
    out.scale[0] = block.Half(0);
  }
};

struct Q4_0Int8 : FormatBase<32, 18, 8, 15> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Q4_0Int8>& out) {
    UnpackNibbles(block, 2, out.u);
    out.scale[0] = block.Half(0);
  }
};

struct Q4_1Int8 : FormatBase<32, 20, 0, 15, 1, 1> {
  static constexpr Units kUnits[] = {{2, 2}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Q4_1Int8>& out) {
    UnpackNibbles(block, 4, out.u);
    out.scale[0] = block.Half(0);
    out.min[0] = hn::Neg(block.Half(2));
  }
};

struct Q5_0Int8 : FormatBase<32, 22, 16, 31> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 5}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Q5_0Int8>& out) {
    UnpackNibbles(block, 6, out.u);
    AddFifthBits(block, 2, out.u);
    out.scale[0] = block.Half(0);
  }
};

struct Q5_1Int8 : FormatBase<32, 24, 0, 31, 1, 1> {
  static constexpr Units kUnits[] = {{2, 2}, {4, 5}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Q5_1Int8>& out) {
    UnpackNibbles(block, 8, out.u);
    AddFifthBits(block, 4, out.u);
    out.scale[0] = block.Half(0);
    out.min[0] = hn::Neg(block.Half(2));
  }
};

// kIq4Levels + 128.
alignas(16) inline constexpr uint8_t kIq4Unsigned[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                         129, 141, 153, 166, 181, 197, 217, 241};
static_assert(kIq4Unsigned[0] == kIq4Levels[0] + 128 && kIq4Unsigned[15] == kIq4Levels[15] + 128);

struct Iq4NlInt8 : FormatBase<32, 18, 128, 255> {
  static constexpr Units kUnits[] = {{2, 1}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Iq4NlInt8>& out) {
    UnpackNibbles(block, 2, out.u);
    LookUp(kIq4Unsigned, out.u);
    out.scale[0] = block.Half(0);
  }
};

struct Iq4XsInt8 : FormatBase<256, 136, 128, 255> {
  static constexpr Units kUnits[] = {{2, 1}, {1, 6}, {4, 32}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<Iq4XsInt8>& out) {
    UnpackNibbles(block, 8 + 16 * group, out.u);
    LookUp(kIq4Unsigned, out.u);
    const auto bits = [&](int offset, int shift, int mask) HWY_ATTR {
      return MaskI32(hn::ShiftRightSame(block.Byte(offset), shift), mask);
    };
    const I32Vec low = bits(4 + group / 2, 4 * (group % 2), 15);
    const I32Vec high = bits(2 + group / 4, 2 * (group % 4), 3);
    const I32Vec scale = hn::Sub(hn::Or(low, hn::ShiftLeft<4>(high)), hn::Set(I32Tag(), 32));
    out.scale[0] = hn::Mul(block.Half(0), ToF32(scale));
  }
};

struct Mxfp4Int8 : FormatBase<32, 17, 12, 24> {
  static constexpr Units kUnits[] = {{1, 1}, {4, 4}};
  static HWY_INLINE void Unpack(const TileBlock& block, int /*group*/, Unpacked<Mxfp4Int8>& out) {
    // Twice the levels of E2M1, + 12.
    alignas(16) static constexpr uint8_t kLevels[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                        12, 11, 10, 9,  8,  6,  4,  0};
    UnpackNibbles(block, 1, out.u);
    LookUp(kLevels, out.u);
    // 2^(e - 128): half of the block's scale, by its bits; subnormal for e below 2.
    const I32Tag d;
    const I32Vec e = block.Byte(0);
    const I32Vec normal = hn::ShiftLeft<23>(hn::Sub(e, hn::Set(d, 1)));
    const I32Vec subnormal = hn::ShiftLeft<21>(hn::Add(e, hn::Set(d, 1)));
    out.scale[0] =
        hn::BitCast(F32Tag(), hn::IfThenElse(hn::Lt(e, hn::Set(d, 2)), subnormal, normal));
  }
};

// Scales and minima of 6 bits in 12 bytes (engine/format/k_scales.h), times d and dmin.
template <class F>
HWY_INLINE void UnpackKScales(const TileBlock& block, int group, Unpacked<F>& out) {
  constexpr int kAt = 4;
  I32Vec scale, min;
  if (group < 4) {
    scale = MaskI32(block.Byte(kAt + group), 63);
    min = MaskI32(block.Byte(kAt + group + 4), 63);
  } else {
    const I32Vec low = block.Byte(kAt + group + 4);
    const auto high = [&](int byte) HWY_ATTR {
      return hn::ShiftLeft<4>(hn::ShiftRight<6>(block.Byte(kAt + byte)));
    };
    scale = hn::Or(MaskI32(low, 15), high(group - 4));
    min = hn::Or(hn::ShiftRight<4>(low), high(group));
  }
  out.scale[0] = hn::Mul(block.Half(0), ToF32(scale));
  out.min[0] = hn::Mul(block.Half(2), ToF32(min));
}

struct Q4_KInt8 : FormatBase<256, 144, 0, 15, 1, 1> {
  static constexpr Units kUnits[] = {{2, 2}, {1, 12}, {4, 32}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<Q4_KInt8>& out) {
    UnpackBits(block, 16 + 32 * (group / 2), 4 * (group % 2), 15, out.u);
    UnpackKScales(block, group, out);
  }
};

struct Q5_KInt8 : FormatBase<256, 176, 0, 31, 1, 1> {
  static constexpr Units kUnits[] = {{2, 2}, {1, 12}, {4, 40}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<Q5_KInt8>& out) {
    UnpackBits(block, 48 + 32 * (group / 2), 4 * (group % 2), 15, out.u);
    AddBits<4>(block, 16, group, 1, out.u);
    UnpackKScales(block, group, out);
  }
};

struct Q6_KInt8 : FormatBase<256, 210, 32, 63, 2> {
  static constexpr Units kUnits[] = {{4, 48}, {1, 16}, {2, 1}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<Q6_KInt8>& out) {
    const int half = group / 4, part = group % 4;
    UnpackBits(block, 64 * half + 32 * (part % 2), 4 * (part / 2), 15, out.u);
    AddBits<4>(block, 128 + 32 * half, 2 * part, 3, out.u);
    const F32Vec d = block.Half(208);
    for (int i = 0; i < 2; ++i) {
      out.scale[i] = hn::Mul(d, ToF32(block.SignedByte(192 + 2 * group + i)));
    }
  }
};

struct Q3_KInt8 : FormatBase<256, 110, 4, 7, 2> {
  static constexpr Units kUnits[] = {{4, 24}, {1, 12}, {2, 1}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<Q3_KInt8>& out) {
    UnpackBits(block, 32 + 32 * (group / 4), 2 * (group % 4), 3, out.u);
    AddBits<2>(block, 0, group, 1, out.u);
    const F32Vec d = block.Half(108);
    for (int i = 0; i < 2; ++i) out.scale[i] = hn::Mul(d, ToF32(Scale(block, 2 * group + i)));
  }

 private:
  static HWY_INLINE I32Vec Scale(const TileBlock& block, int i) {
    const I32Vec both = block.Byte(96 + i % 8);
    const I32Vec low = i < 8 ? MaskI32(both, 15) : hn::ShiftRight<4>(both);
    const I32Vec high = MaskI32(hn::ShiftRightSame(block.Byte(104 + i % 4), 2 * (i / 4)), 3);
    return hn::Sub(hn::Or(low, hn::ShiftLeft<4>(high)), hn::Set(I32Tag(), 32));
  }
};

// The scales, of 4 bits, are multiplied into the 2 bits of each value: at most 45.
struct Q2_KInt8 : FormatBase<256, 84, 0, 45, 1, 2> {
  static constexpr Units kUnits[] = {{1, 16}, {4, 16}, {2, 2}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<Q2_KInt8>& out) {
    const U16Tag d16;
    UnpackBits(block, 16 + 32 * (group / 4), 2 * (group % 4), 3, out.u);
    const F32Vec dmin = block.Half(82);
    for (int i = 0; i < 2; ++i) {
      const I32Vec both = block.Byte(2 * group + i);
      const I32Vec scale = MaskI32(both, 15);
      const auto twice = hn::BitCast(d16, hn::Or(scale, hn::ShiftLeft<16>(scale)));
      for (int j = 4 * i; j < 4 * i + 4; ++j) {
        out.u[j] = hn::BitCast(U8Tag(), hn::Mul(hn::BitCast(d16, out.u[j]), twice));
      }
      out.min[i] = hn::Mul(dmin, ToF32(hn::ShiftRight<4>(both)));
    }
    out.scale[0] = block.Half(80);
  }
};

// Groups of integers (engine/format/int_groups.h) of up to 128 columns; a symmetric quantiser's
// zero is the offset, so that it leaves no minimum.
template <int kBits, class Scale>
struct IntGroupInt8
    : FormatBase<128, Scale::kBytes + 1 + 16 * kBits, 1 << (kBits - 1), (1 << kBits) - 1, 1, 1> {
  using Base =
      FormatBase<128, Scale::kBytes + 1 + 16 * kBits, 1 << (kBits - 1), (1 << kBits) - 1, 1, 1>;
  static constexpr bool kVaries = true;
  static constexpr bool kPairs = kBits == 4;
  template <int kColumns>
  static constexpr Units kUnits[] = {{Scale::kBytes, 1}, {1, 1}, {4, kColumns* kBits / 32}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<IntGroupInt8>& out) {
    constexpr int kAt = Scale::kBytes + 1;
    const int64_t first = kAt + 4 * kBits * group;
    if constexpr (kBits == 4) {
      for (int j = 0; j < 4; ++j) {
        const U8Vec pair = block.Word(first + 4 * j);
        out.u[2 * j] = Mask(pair, 15);
        out.u[2 * j + 1] = Mask(ShiftBytes<4>(pair), 15);
      }
    } else {
      for (int j = 0; j < 8; ++j) out.u[j] = block.Word(first + 4 * j);
    }
    const I32Vec zero = block.Byte(Scale::kBytes);
    out.scale[0] = block.Float<Scale>(0);
    out.min[0] = hn::Mul(out.scale[0], ToF32(hn::Sub(zero, hn::Set(I32Tag(), Base::kOffset))));
  }
};

struct BnbInt8 : FormatBase<64, 68, 128, 255> {
  static constexpr Units kUnits[] = {{4, 1}, {4, 16}};
  static HWY_INLINE void Unpack(const TileBlock& block, int group, Unpacked<BnbInt8>& out) {
    const U8Vec flip = hn::Set(U8Tag(), 0x80);
    for (int j = 0; j < 8; ++j) out.u[j] = hn::Xor(block.Word(4 + 32 * group + 4 * j), flip);
    out.scale[0] = hn::Mul(block.Float<F32Element>(0), hn::Set(F32Tag(), 1.0f / 127));
  }
};

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
