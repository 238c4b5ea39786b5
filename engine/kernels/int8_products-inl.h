// Products of unpacked weights with tokens that are rounded to 8 or 16 bits (see int8_ops.h), in
// registers: the columns of a group at a time, and what a block of the weights has in common once
// for all its groups.

#include <algorithm>
#include <type_traits>

#include "engine/kernels/int8_formats-inl.h"

#if defined(TPRUN_INT8_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_INT8_PRODUCTS_INL_H_
#undef TPRUN_INT8_PRODUCTS_INL_H_
#else
#define TPRUN_INT8_PRODUCTS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// The sum of a block so far, less d: whole numbers where its groups have no scales of their own,
// below 2^29 in all.
template <class F>
using Partial = std::conditional_t<F::kScales == 0, I32Vec, F32Vec>;

HWY_INLINE F32Vec AsF32(F32Vec v) { return v; }
HWY_INLINE F32Vec AsF32(I32Vec v) { return ToF32(v); }

// dots = base(token, vector) + 32 columns, or half `half` of them where halves have scales, for
// each token and vector of rows. Of two planes of a token the first counts 256 times. Few chains of
// sums are kept apart, so that they wait neither for each other nor for the base; many leave no
// registers for that, nor for the base before it is needed.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens, class Base>
HWY_INLINE void Dots(const Unpacked<F> (&w)[kVectors], const Int8Group* x, int half,
                     const Base& base, I32Vec (&dots)[kTokens][kVectors]) {
  constexpr int kSteps = F::kScales == 2 ? 4 : 8;
  constexpr bool kApart = kTokens * kVectors <= 4;
  I32Vec last[kTokens][kVectors];  // the second plane by itself
  for (int plane = 0; plane < kPlanes; ++plane) {
    const bool alone = kApart && plane == 1;
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        I32Vec& sum = alone ? last[t][v] : dots[t][v];
        if (kApart || plane + 1 < kPlanes) {
          sum = hn::Zero(I32Tag());
        } else {
          sum = plane == 0 ? base(t, v) : hn::Add(hn::ShiftLeft<8>(sum), base(t, v));
        }
      }
    }
    for (int j = half * kSteps; j < (half + 1) * kSteps; ++j) {
      for (int t = 0; t < kTokens; ++t) {
        Dot::AddFour(alone ? last[t] : dots[t], w, j, x[t].q[plane] + 4 * j);
      }
    }
  }
  if constexpr (kApart) {
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        I32Vec& sum = dots[t][v];
        if (kPlanes == 2) sum = hn::Add(last[t][v], hn::ShiftLeft<8>(sum));
        sum = hn::Add(sum, base(t, v));
      }
    }
  }
}

// partial = before(token, vector) + the columns of a group.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens, class Before>
HWY_INLINE void AddGroup(const Unpacked<F> (&w)[kVectors], const Int8Group* x, const Before& before,
                         Partial<F> (&partial)[kTokens][kVectors]) {
  const auto start = [&](int t, int half) HWY_ATTR {
    return F::kOffset == 0 ? hn::Zero(I32Tag()) : hn::Set(I32Tag(), x[t].start[half]);
  };
  for (int half = 0; half < std::max(F::kScales, 1); ++half) {
    I32Vec dots[kTokens][kVectors];
    const auto base = [&](int t, int v) HWY_ATTR {
      if constexpr (F::kScales == 0) return hn::Add(before(t, v), start(t, 0));
      return start(t, half);
    };
    Dots<F, Dot, kPlanes>(w, x, half, base, dots);
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (F::kScales == 0) {
          partial[t][v] = dots[t][v];
        } else {
          const F32Vec sum = half == 0 ? before(t, v) : partial[t][v];
          partial[t][v] = hn::MulAdd(ToF32(dots[t][v]), w[v].scale[half], sum);
        }
      }
    }
  }
}

// The minima of a block's groups times the sums of a token's values over them; x: the token in the
// first group, `stride` groups from that of the next.
template <class F, class Dot, int kPlanes>
HWY_INLINE I32Vec MinDots(const U8Vec (&mins)[F::kMinWords], const Int8Group* x, int64_t stride) {
  constexpr int kGroupsOfWord = F::kGroups / F::kMinWords;
  I32Vec dots = hn::Zero(I32Tag());
  for (int part = kPlanes; part >= 0; --part) {
    if (part < kPlanes) dots = hn::ShiftLeft<kSumPartBits>(dots);
    for (int k = 0; k < F::kMinWords; ++k) {
      dots = Dot::Add(dots, mins[k], x[k * kGroupsOfWord * stride].sum_parts[part]);
    }
  }
  return dots;
}

// The sum of a token's values over a block of `groups` groups.
HWY_INLINE float SumOfBlock(const Int8Group* x, int groups, int64_t stride) {
  float sum = x->sum;
  for (int group = 1; group < groups; ++group) sum += x[group * stride].sum;
  return sum;
}

// sums += a block of `groups` groups that is done; x: the tokens in its first group.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens>
HWY_INLINE void FinishBlock(const BlockScales<F> (&w)[kVectors], const Int8Group* x, int groups,
                            int64_t stride, const Partial<F> (&partial)[kTokens][kVectors],
                            F32Vec (&sums)[kTokens][kVectors]) {
  const F32Tag d;
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      F32Vec sum = hn::Mul(AsF32(partial[t][v]), w[v].d);
      if constexpr (F::kMin) {
        sum = hn::NegMulAdd(w[v].min, hn::Set(d, SumOfBlock(x + t, groups, stride)), sum);
      }
      if constexpr (F::kMinWords > 0) {
        const I32Vec mins = MinDots<F, Dot, kPlanes>(w[v].mins, x + t, stride);
        sum = hn::NegMulAdd(w[v].min, ToF32(mins), sum);
      }
      sums[t][v] = hn::MulAdd(sum, hn::Set(d, x[t].scale), sums[t][v]);
    }
  }
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
