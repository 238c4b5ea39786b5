// Products of unpacked weights with tokens that are rounded to 8 or 16 bits (see int8_ops.h), in
// registers: the columns of a group at a time, and what a block of the weights has in common once
// for all its groups. x is the panel of the first token, `group` the first group of it that is
// meant.

#include <algorithm>
#include <type_traits>
#include <utility>

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

// Of a lambda: sums that it meets by reference stay in registers only if it is a part of where it
// is called.
#define TPRUN_INLINE HWY_ATTR __attribute__((always_inline))

// The sum of a block so far, less d: whole numbers where its groups have no scales of their own,
// below 2^29 in all.
template <class F>
using Partial = std::conditional_t<F::kScales == 0, I32Vec, F32Vec>;

HWY_INLINE F32Vec AsF32(F32Vec v) { return v; }
HWY_INLINE F32Vec AsF32(I32Vec v) { return ToF32(v); }

// body(constant i) for i in [0, kCount): written out before the compiler decides what to keep in
// memory, which it does with an array whose loop is unrolled later.
template <int... kI, class Body>
HWY_INLINE void UnrollOver(std::integer_sequence<int, kI...>, const Body& body) {
  (body(std::integral_constant<int, kI>()), ...);
}
template <int kCount, class Body>
HWY_INLINE void Unroll(const Body& body) {
  UnrollOver(std::make_integer_sequence<int, kCount>(), body);
}
// The same where a dot product is one instruction; others would only take long to compile.
template <class Dot, int kCount, class Body>
HWY_INLINE void ForEach(const Body& body) {
  if constexpr (Dot::kFew) {
    Unroll<kCount>(body);
  } else {
    for (int i = 0; i < kCount; ++i) body(i);
  }
}

// dots = base(token, vector) + the columns of a part for each token and vector of rows; step: the
// part's first of its group. Of two planes of a token the first counts 256 times. Few chains of
// sums are kept apart, so that they wait neither for each other nor for the base; many leave no
// registers for that, nor for the base before it is needed.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens, class Base>
HWY_INLINE void Dots(const Unpacked<F> (&w)[kVectors], const Int8Panel* x, int group, int step,
                     const Base& base, I32Vec (&dots)[kTokens][kVectors]) {
  constexpr bool kApart = kTokens * kVectors <= 4;
  // One plane of 8 tokens meets weights faster than they come; q4_k is then read at two thirds of
  // the rate from memory (Zen 5).
  constexpr bool kFromMemory = kVectors == 1 && (kPlanes == 2 || kTokens < 8);
  I32Vec last[kTokens][kVectors];  // the second plane by itself
  Unroll<kPlanes>([&](auto plane) TPRUN_INLINE {
    constexpr bool kAlone = kApart && plane == 1;
    ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
      ForEach<Dot, kVectors>([&](auto v) TPRUN_INLINE {
        I32Vec& sum = kAlone ? last[t][v] : dots[t][v];
        if constexpr (kApart || plane + 1 < kPlanes) {
          sum = hn::Zero(I32Tag());
        } else if constexpr (plane == 0) {
          sum = base(t, v);
        } else {
          sum = hn::Add(hn::ShiftLeft<8>(sum), base(t, v));
        }
      });
    });
    ForEach<Dot, F::kSteps>([&](auto j) TPRUN_INLINE {
      ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
        Dot::template AddAll<kFromMemory>(kAlone ? last[t] : dots[t], w, j,
                                          x[t].groups[group].q[plane] + 4 * (step + j));
      });
    });
  });
  if constexpr (kApart) {
    ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
      ForEach<Dot, kVectors>([&](auto v) TPRUN_INLINE {
        I32Vec& sum = dots[t][v];
        if constexpr (kPlanes == 2) sum = hn::Add(last[t][v], hn::ShiftLeft<8>(sum));
        sum = hn::Add(sum, base(t, v));
      });
    });
  }
}

// partial = before(token, vector) + the columns of part `part` of a group.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens, class Before>
HWY_INLINE void AddPart(const Unpacked<F> (&w)[kVectors], const Int8Panel* x, int group, int part,
                        const Before& before, Partial<F> (&partial)[kTokens][kVectors]) {
  const auto start = [&](int t) TPRUN_INLINE {
    return F::kOffset == 0 ? hn::Zero(I32Tag()) : hn::Set(I32Tag(), x[t].groups[group].start[part]);
  };
  I32Vec dots[kTokens][kVectors];
  const auto base = [&](int t, int v) TPRUN_INLINE {
    if constexpr (F::kScales == 0) return hn::Add(before(t, v), start(t));
    return start(t);
  };
  Dots<F, Dot, kPlanes>(w, x, group, part * F::kSteps, base, dots);
  ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
    ForEach<Dot, kVectors>([&](auto v) TPRUN_INLINE {
      if constexpr (F::kScales == 0) {
        partial[t][v] = dots[t][v];
      } else {
        partial[t][v] = hn::MulAdd(ToF32(dots[t][v]), w[v].scale, before(t, v));
      }
    });
  });
}

// The minima of a block's groups times the sums of a token's values over them.
template <class F, class Dot, int kPlanes>
HWY_INLINE I32Vec MinDots(const U8Vec (&mins)[F::kMinWords], const Int8Group* x) {
  constexpr int kGroupsOfWord = F::kGroups / F::kMinWords;
  I32Vec dots = hn::Zero(I32Tag());
  for (int part = kPlanes; part >= 0; --part) {
    if (part < kPlanes) dots = hn::ShiftLeft<kSumPartBits>(dots);
    for (int k = 0; k < F::kMinWords; ++k) {
      dots = Dot::Add(dots, mins[k], x[k * kGroupsOfWord].sum_parts[part]);
    }
  }
  return dots;
}

// The sum of a token's values over a block of `groups` groups.
HWY_INLINE float SumOfBlock(const Int8Group* x, int groups) {
  float sum = x->sum;
  for (int group = 1; group < groups; ++group) sum += x[group].sum;
  return sum;
}

// sums += a block of `groups` groups that is done.
template <class F, class Dot, int kPlanes, int kVectors, int kTokens>
HWY_INLINE void FinishBlock(const BlockScales<F> (&w)[kVectors], const Int8Panel* x, int group,
                            int groups, const Partial<F> (&partial)[kTokens][kVectors],
                            F32Vec (&sums)[kTokens][kVectors]) {
  const F32Tag d;
  ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
    const Int8Group* token = x[t].groups + group;
    ForEach<Dot, kVectors>([&](auto v) TPRUN_INLINE {
      F32Vec sum = hn::Mul(AsF32(partial[t][v]), w[v].d);
      if constexpr (F::kMin) {
        sum = hn::NegMulAdd(w[v].min, hn::Set(d, SumOfBlock(token, groups)), sum);
      }
      if constexpr (F::kMinWords > 0) {
        const I32Vec mins = MinDots<F, Dot, kPlanes>(w[v].mins, token);
        sum = hn::NegMulAdd(w[v].min, ToF32(mins), sum);
      }
      sums[t][v] = hn::MulAdd(sum, hn::Set(d, token->scale), sums[t][v]);
    });
  });
}

// partial = a block of `groups` groups, part i of which is weights(i).
template <class F, class Dot, int kPlanes, int kVectors, int kTokens, class Weights>
HWY_INLINE void AddBlock(const Int8Panel* x, int group, int groups, const Weights& weights,
                         Partial<F> (&partial)[kTokens][kVectors]) {
  ForEach<Dot, kTokens>([&](auto t) TPRUN_INLINE {
    ForEach<Dot, kVectors>(
        [&](auto v) TPRUN_INLINE { partial[t][v] = hn::Zero(hn::DFromV<Partial<F> >()); });
  });
  const auto before = [&](int t, int v) TPRUN_INLINE { return partial[t][v]; };
  const auto add = [&](int i) TPRUN_INLINE {
    Unroll<F::kPartsOfGroup>([&](auto part) TPRUN_INLINE {
      weights(i * F::kPartsOfGroup + part, [&](const Unpacked<F>(&w)[kVectors]) TPRUN_INLINE {
        AddPart<F, Dot, kPlanes>(w, x, group + i, part, before, partial);
      });
    });
  };
  if constexpr (kTokens == 1 && F::kGroups > 1) {
#pragma GCC unroll 8
    for (int i = 0; i < groups; ++i) add(i);
  } else {
#pragma GCC unroll 1
    for (int i = 0; i < groups; ++i) add(i);
  }
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
