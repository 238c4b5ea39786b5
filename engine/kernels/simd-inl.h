// Vectors of float and how the element types load into them, per instruction set.

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

#if defined(TPRUN_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_SIMD_INL_H_
#undef TPRUN_SIMD_INL_H_
#else
#define TPRUN_SIMD_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes: what divides the blocks of every weight format.
using F32Tag = HWY_CAPPED(float, 16);
using I32Tag = hn::Rebind<int32_t, F32Tag>;
using U32Tag = hn::Rebind<uint32_t, F32Tag>;
using F32Vec = hn::Vec<F32Tag>;
#if HWY_TARGET == HWY_SCALAR
inline constexpr int kLanes = 1;
#else
inline constexpr int kLanes = HWY_MAX_BYTES / 4 < 16 ? HWY_MAX_BYTES / 4 : 16;
#endif

HWY_INLINE F32Vec BF16ToF32(const uint8_t* p) {
  const F32Tag d;
  const hn::Rebind<uint16_t, F32Tag> d16;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(U32Tag(), bits)));
}

using F16Bits = hn::Vec<hn::Rebind<uint16_t, F32Tag>>;
HWY_INLINE F32Vec F16ToF32(F16Bits bits) {
  const F32Tag d;
  const F32Vec v = hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, F32Tag>(), bits));
#if HWY_ARCH_ARM_A64 || (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2)
  return v;
#else  // Without an instruction for it Highway takes infinity and NaN for numbers from 2^16 on.
  const U32Tag du;
  const auto exponent = hn::And(hn::BitCast(du, v), hn::Set(du, 0x7f800000));
  const auto beyond = hn::Eq(exponent, hn::Set(du, (127u + 16) << 23));
  return hn::Or(v, hn::BitCast(d, hn::IfThenElseZero(beyond, hn::Set(du, 0x7f800000))));
#endif
}
HWY_INLINE F32Vec F16ToF32(const uint8_t* p) {
  const hn::Rebind<uint16_t, F32Tag> d16;
  return F16ToF32(hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
}

// Element types as they lie in memory. Load reads one vector, LoadTail its first `count` elements
// and zeros after them.
template <class Derived, int kElementBytes>
struct ElementBase {
  static constexpr int kBytes = kElementBytes;
  static HWY_INLINE F32Vec LoadTail(const uint8_t* p, int64_t count) {
    uint8_t buffer[kLanes * kBytes] = {};
    const size_t n = static_cast<size_t>(count) < kLanes ? count : kLanes;
    std::memcpy(buffer, p, n * kBytes);
    return Derived::Load(buffer);
  }
};
struct F32Element : ElementBase<F32Element, 4> {
  static HWY_INLINE F32Vec Load(const uint8_t* p) {
    return hn::LoadU(F32Tag(), reinterpret_cast<const float*>(p));
  }
};
struct F16Element : ElementBase<F16Element, 2> {
  static HWY_INLINE F32Vec Load(const uint8_t* p) { return F16ToF32(p); }
};
struct BF16Element : ElementBase<BF16Element, 2> {
  static HWY_INLINE F32Vec Load(const uint8_t* p) { return BF16ToF32(p); }
};
// A byte of sign, 4 bits of exponent with bias 7 and 3 of mantissa is the high part of an f16,
// whose bias is 15; all ones are NaN.
struct E4M3Element : ElementBase<E4M3Element, 1> {
  static constexpr float kFactor = 256;
  static HWY_INLINE F32Vec Load(const uint8_t* p) {
    return hn::Mul(LoadShrunk(p), hn::Set(F32Tag(), kFactor));
  }
  // 1 / kFactor of it.
  static HWY_INLINE F32Vec LoadShrunk(const uint8_t* p) {
    const hn::Rebind<int8_t, F32Tag> d8;
    const hn::Rebind<int16_t, F32Tag> d16;
    const hn::Rebind<hwy::float16_t, F32Tag> df16;
    const F32Tag d;
    const auto bits = hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(p)));
    const auto half = hn::AndNot(hn::Set(d16, 0x4000), hn::ShiftLeft<7>(bits));
    const F32Vec value = hn::PromoteTo(d, hn::BitCast(df16, half));
    return hn::IfThenElse(hn::Eq(hn::Abs(value), hn::Set(d, 1.875f)), hn::NaN(d), value);
  }
};

HWY_INLINE F32Vec LoadFloats(const float* p, int64_t count) {
  return F32Element::LoadTail(reinterpret_cast<const uint8_t*>(p), count);
}
HWY_INLINE void StoreFloats(F32Vec v, float* p, int64_t count) {
  HWY_ALIGN float buffer[kLanes];
  hn::Store(v, F32Tag(), buffer);
  const size_t n = static_cast<size_t>(count) < kLanes ? count : kLanes;
  std::memcpy(p, buffer, n * sizeof(float));
}

// out[0, count) = in[0, count) as f32.
template <class Element>
HWY_INLINE void Widen(const uint8_t* in, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(Element::Load(in + i * Element::kBytes), F32Tag(), out + i);
  }
  if (i < count) {
    StoreFloats(Element::LoadTail(in + i * Element::kBytes, count - i), out + i, count - i);
  }
}

HWY_INLINE float Sum(F32Vec v) { return hn::GetLane(hn::SumOfLanes(F32Tag(), v)); }

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
