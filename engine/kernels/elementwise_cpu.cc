#include <cmath>
#include <cstdint>

#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/elementwise_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/simd-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

// out[i] = op(a[i], b[i]); the tail as a vector that is filled up with zeros.
template <class Op>
HWY_INLINE void ForEach(const float* a, const float* b, float* out, int64_t count, const Op& op) {
  const F32Tag d;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(op(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
  }
  if (i < count) {
    StoreFloats(op(LoadFloats(a + i, count - i), LoadFloats(b + i, count - i)), out + i, count - i);
  }
}

HWY_INLINE float SumOfSquares(const float* x, int64_t count) {
  const F32Tag d;
  F32Vec sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) {
      const F32Vec v = hn::LoadU(d, x + i + k * kLanes);
      sums[k] = hn::MulAdd(v, v, sums[k]);
    }
  }
  for (; i < count; i += kLanes) {
    const F32Vec v = LoadFloats(x + i, count - i < kLanes ? count - i : kLanes);
    sums[0] = hn::MulAdd(v, v, sums[0]);
  }
  return Sum(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

void ScaleRow(const float* x, float squares, const float* w, int64_t dim, const NormSpec& norm,
              float* out) {
  const F32Tag d;
  const float mean = squares / static_cast<float>(dim);
  const F32Vec scale = hn::Set(d, 1 / std::sqrt(mean + norm.eps));
  const F32Vec offset = hn::Set(d, norm.unit_offset ? 1.0f : 0.0f);
  ForEach(x, w, out, dim, [&](F32Vec v, F32Vec weight) HWY_ATTR {
    return hn::Mul(hn::Mul(v, scale), hn::Add(weight, offset));
  });
}

void RmsNormRow(const float* x, const float* w, int64_t dim, const NormSpec& norm, float* out) {
  ScaleRow(x, SumOfSquares(x, dim), w, dim, norm, out);
}

// Calls use(k, i, n, sums) with the sums of the n elements from i on; k counts them off, below
// kVectors.
template <class Use>
HWY_INLINE void ForSums(absl::Span<const float* const> parts, int64_t offset, int64_t count,
                        const Use& use) {
  constexpr int kVectors = 4;
  constexpr int64_t kStep = kVectors * kLanes;
  const F32Tag d;
  F32Vec sums[kVectors];
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (int k = 0; k < kVectors; ++k) sums[k] = hn::LoadU(d, parts[0] + offset + i + k * kLanes);
    for (const float* part : parts.subspan(1)) {
      for (int k = 0; k < kVectors; ++k) {
        sums[k] = hn::Add(sums[k], hn::LoadU(d, part + offset + i + k * kLanes));
      }
    }
    for (int k = 0; k < kVectors; ++k) use(k, i + k * kLanes, kLanes, sums[k]);
  }
  for (; i < count; i += kLanes) {
    const int64_t n = count - i < kLanes ? count - i : kLanes;
    sums[0] = LoadFloats(parts[0] + offset + i, n);
    for (const float* part : parts.subspan(1)) {
      sums[0] = hn::Add(sums[0], LoadFloats(part + offset + i, n));
    }
    use(0, i, n, sums[0]);
  }
}

void SumParts(absl::Span<const float* const> parts, int64_t offset, int64_t count, float* out) {
  ForSums(parts, offset, count, [out](int, int64_t i, int64_t n, F32Vec sum) HWY_ATTR {
    if (n == kLanes) {
      hn::StoreU(sum, F32Tag(), out + i);
    } else {
      StoreFloats(sum, out + i, n);
    }
  });
}

float AddParts(absl::Span<const float* const> parts, int64_t offset, int64_t count,
               float* residual) {
  const F32Tag d;
  F32Vec squares[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  ForSums(parts, offset, count, [&](int k, int64_t i, int64_t n, F32Vec sum) HWY_ATTR {
    const bool whole = n == kLanes;
    const F32Vec x = hn::Add(whole ? hn::LoadU(d, residual + i) : LoadFloats(residual + i, n), sum);
    squares[k] = hn::MulAdd(x, x, squares[k]);
    if (whole) {
      hn::StoreU(x, d, residual + i);
    } else {
      StoreFloats(x, residual + i, n);
    }
  });
  return Sum(hn::Add(hn::Add(squares[0], squares[1]), hn::Add(squares[2], squares[3])));
}

HWY_INLINE void RotateHalfSplit(float* x, int half, const float* cosines, const float* sines) {
  const F32Tag d;
  int i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32Vec a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    const F32Vec c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cosines[i] - b * sines[i];
    x[half + i] = a * sines[i] + b * cosines[i];
  }
}

HWY_INLINE void RotateInterleaved(float* x, int half, const float* cosines, const float* sines) {
  for (int i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosines[i] - b * sines[i];
    x[2 * i + 1] = a * sines[i] + b * cosines[i];
  }
}

void RopeToken(float* x, int heads, int head_dim, const RopeSpec& rope, const float* cosines,
               const float* sines) {
  for (int h = 0; h < heads; ++h, x += head_dim) {
    if (rope.layout == RopeLayout::kInterleaved) {
      RotateInterleaved(x, rope.dims / 2, cosines, sines);
    } else {
      RotateHalfSplit(x, rope.dims / 2, cosines, sines);
    }
  }
}

// x / (1 + exp(-z)). Below -88 exp overflows; there the result is under 1e-36 anyway.
HWY_INLINE F32Vec TimesSigmoid(F32Vec x, F32Vec z) {
  const F32Tag d;
  const F32Vec e = hn::Exp(d, hn::Min(hn::Neg(z), hn::Set(d, 88.0f)));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), e));
}

void GatedActivation(Activation activation, float* gate, const float* up, int64_t count) {
  const F32Tag d;
  if (activation == Activation::kSilu) {
    ForEach(gate, up, gate, count,
            [](F32Vec x, F32Vec u) HWY_ATTR { return hn::Mul(TimesSigmoid(x, x), u); });
    return;
  }
  if (activation == Activation::kClampedSwiGlu) {
    const F32Vec limit = hn::Set(d, 7.0f), alpha = hn::Set(d, 1.702f), one = hn::Set(d, 1.0f);
    ForEach(gate, up, gate, count, [&](F32Vec x, F32Vec u) HWY_ATTR {
      const F32Vec g = hn::Min(x, limit);
      const F32Vec clamped = hn::Max(hn::Min(u, limit), hn::Neg(limit));
      return hn::Mul(TimesSigmoid(g, hn::Mul(g, alpha)), hn::Add(clamped, one));
    });
    return;
  }
  // x / 2 (1 + tanh(z)) = x / (1 + exp(-2 z)), which does not cancel for negative z;
  // z = sqrt(2 / pi) (x + 0.044715 x^3), arXiv 1606.08415.
  const F32Vec linear = hn::Set(d, 1.5957691216057308f);
  const F32Vec cubic = hn::Set(d, 1.5957691216057308f * 0.044715f);
  ForEach(gate, up, gate, count, [&](F32Vec x, F32Vec u) HWY_ATTR {
    const F32Vec z = hn::Mul(x, hn::MulAdd(hn::Mul(x, x), cubic, linear));
    return hn::Mul(TimesSigmoid(x, z), u);
  });
}

void Add(float* x, const float* y, int64_t count) {
  ForEach(x, y, x, count, [](F32Vec a, F32Vec b) HWY_ATTR { return hn::Add(a, b); });
}

void Scale(float* x, int64_t count, float factor) {
  const F32Vec f = hn::Set(F32Tag(), factor);
  ForEach(x, x, x, count, [&](F32Vec a, F32Vec) HWY_ATTR { return hn::Mul(a, f); });
}

void Softcap(float* x, int64_t count, float cap) {
  const F32Tag d;
  const F32Vec factor = hn::Set(d, cap);
  ForEach(x, x, x, count, [&](F32Vec a, F32Vec) HWY_ATTR {
    return hn::Mul(factor, hn::Tanh(d, hn::Div(a, factor)));
  });
}

absl::string_view CompiledTarget() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(CompiledTarget);
HWY_EXPORT(RmsNormRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(SumParts);
HWY_EXPORT(AddParts);
HWY_EXPORT(RopeToken);
HWY_EXPORT(GatedActivation);
HWY_EXPORT(Add);
HWY_EXPORT(Scale);
HWY_EXPORT(Softcap);

absl::string_view TargetName() { return HWY_DYNAMIC_DISPATCH(CompiledTarget)(); }
void RmsNormRow(const float* x, const float* w, int64_t dim, const NormSpec& norm, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNormRow)(x, w, dim, norm, out);
}
void ScaleRow(const float* x, float squares, const float* w, int64_t dim, const NormSpec& norm,
              float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRow)(x, squares, w, dim, norm, out);
}
void SumParts(absl::Span<const float* const> parts, int64_t offset, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(SumParts)(parts, offset, count, out);
}
float AddParts(absl::Span<const float* const> parts, int64_t offset, int64_t count,
               float* residual) {
  return HWY_DYNAMIC_DISPATCH(AddParts)(parts, offset, count, residual);
}
void RopeToken(float* x, int heads, int head_dim, const RopeSpec& rope, const float* cosines,
               const float* sines) {
  HWY_DYNAMIC_DISPATCH(RopeToken)(x, heads, head_dim, rope, cosines, sines);
}
void GatedActivation(Activation activation, float* gate, const float* up, int64_t count) {
  HWY_DYNAMIC_DISPATCH(GatedActivation)(activation, gate, up, count);
}
void Add(float* x, const float* y, int64_t count) { HWY_DYNAMIC_DISPATCH(Add)(x, y, count); }
void Scale(float* x, int64_t count, float factor) { HWY_DYNAMIC_DISPATCH(Scale)(x, count, factor); }
void Softcap(float* x, int64_t count, float cap) { HWY_DYNAMIC_DISPATCH(Softcap)(x, count, cap); }

}  // namespace tprun::cpu
#endif  // HWY_ONCE
