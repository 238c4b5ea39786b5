// Dot products of 4 unsigned with 4 signed bytes into each 32-bit lane, per instruction set.

#include "engine/kernels/simd-inl.h"

#if defined(TPRUN_INT8_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_INT8_DOT_INL_H_
#undef TPRUN_INT8_DOT_INL_H_
#else
#define TPRUN_INT8_DOT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

using U8Tag = hn::Repartition<uint8_t, F32Tag>;
using U16Tag = hn::Repartition<uint16_t, F32Tag>;
using I16Tag = hn::Repartition<int16_t, F32Tag>;
using U8Vec = hn::Vec<U8Tag>;
using I32Vec = hn::Vec<I32Tag>;

// Sums of pairs of products of 16-bit numbers.
HWY_INLINE I32Vec MultiplyPairs(hn::Vec<I16Tag> a, hn::Vec<I16Tag> b) {
#if HWY_TARGET == HWY_AVX3
  return I32Vec{_mm512_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_AVX2
  return I32Vec{_mm256_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_SSE4
  return I32Vec{_mm_madd_epi16(a.raw, b.raw)};
#else  // a product of a byte and a signed byte has 16 bits
  const auto products = hn::BitCast(I32Tag(), hn::Mul(a, b));
  const auto low = hn::ShiftRight<16>(hn::ShiftLeft<16>(products));
  return hn::Add(low, hn::ShiftRight<16>(products));
#endif
}

// What the dot products below share: Add(sums, u, four) with the same four signed bytes for every
// lane; AddAll the same for several vectors of rows, sums[v] += column j of w[v].u. kFromMemory: by
// an instruction that repeats the bytes itself, where no other vector needs them.
template <class Dot>
struct DotOfFour {
  static HWY_INLINE I32Vec Add(I32Vec sums, U8Vec u, const int8_t* four) {
    return Dot::AddLanes(sums, u, Load(four));
  }
  template <bool kFromMemory, int kVectors, class Weights>
  static HWY_INLINE void AddAll(I32Vec (&sums)[kVectors], const Weights (&w)[kVectors], int j,
                                const int8_t* four) {
    static_assert(kVectors <= 2);
    if constexpr (kFromMemory) {
      static_assert(kVectors == 1);
      sums[0] = Dot::Add(sums[0], w[0].u[j], four);
    } else {
      const I32Vec s = Load(four);
      sums[0] = Dot::AddLanes(sums[0], w[0].u[j], s);
      if constexpr (kVectors > 1) sums[1] = Dot::AddLanes(sums[1], w[1].u[j], s);
    }
  }

 private:
  static HWY_INLINE I32Vec Load(const int8_t* four) {
    int32_t word;
    std::memcpy(&word, four, sizeof(word));
    return hn::Set(I32Tag(), word);
  }
};

// Without an instruction for it. kMost: the largest of the unsigned bytes.
template <int kMost>
struct WidenedDot : DotOfFour<WidenedDot<kMost>> {
  static constexpr bool kFew = false;
  static HWY_INLINE I32Vec AddLanes(I32Vec sums, U8Vec u, I32Vec s) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
    if constexpr (kMost <= 127) {  // a sum of two products has 16 bits
      const I16Tag d;
#if HWY_TARGET == HWY_AVX3
      const hn::Vec<I16Tag> pairs{_mm512_maddubs_epi16(u.raw, s.raw)};
#elif HWY_TARGET == HWY_AVX2
      const hn::Vec<I16Tag> pairs{_mm256_maddubs_epi16(u.raw, s.raw)};
#else
      const hn::Vec<I16Tag> pairs{_mm_maddubs_epi16(u.raw, s.raw)};
#endif
      return hn::Add(sums, MultiplyPairs(pairs, hn::Set(d, 1)));
    }
#endif
    const U16Tag du;
    const I16Tag d;
    const auto u16 = hn::BitCast(du, u);
    const auto s16 = hn::BitCast(d, s);
    const auto even = hn::BitCast(d, hn::And(u16, hn::Set(du, 0xff)));
    const auto odd = hn::BitCast(d, hn::ShiftRight<8>(u16));
    const auto s_even = hn::ShiftRight<8>(hn::ShiftLeft<8>(s16));
    const auto s_odd = hn::ShiftRight<8>(s16);
    return hn::Add(sums, hn::Add(MultiplyPairs(even, s_even), MultiplyPairs(odd, s_odd)));
  }
};

#if HWY_TARGET == HWY_AVX3
// AVX-512 VNNI, which Highway's target does not include: asked for at run time.
#define TPRUN_HAVE_VNNI_DOT 1
struct VnniDot : DotOfFour<VnniDot> {
  static constexpr bool kFew = true;
  static HWY_INLINE I32Vec AddLanes(I32Vec sums, U8Vec u, I32Vec s) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums.raw) : "v"(u.raw), "v"(s.raw));
    return sums;
  }
  static HWY_INLINE I32Vec Add(I32Vec sums, U8Vec u, const int8_t* four) {
    using Four = int8_t[4];
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(sums.raw)
        : "v"(u.raw), "m"(*reinterpret_cast<const Four*>(four)));
    return sums;
  }
};
#else
#undef TPRUN_HAVE_VNNI_DOT
#endif

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
