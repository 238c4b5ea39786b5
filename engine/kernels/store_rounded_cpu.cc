// Rows of a KV cache from f32: the same bytes as the formats' own encoders give.

#include <cstring>

#include "base/dtype.h"
#include "engine/format/fp8_bits.h"
#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/cpu_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/store_rounded_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/quant_blocks-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

// Rounds to nearest even; NaN stays quiet. Highway's own conversion cuts in some versions.
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, F32Tag>> RoundToBF16(F32Vec v) {
  const U32Tag du;
  const I32Tag di;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(hn::Set(du, 0x7fff), odd));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
  const auto chosen = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  return hn::DemoteTo(hn::Rebind<uint16_t, F32Tag>(), hn::BitCast(di, hn::ShiftRight<16>(chosen)));
}

void StoreF16(const float* in, int64_t count, uint8_t* out) {
  int64_t i = 0;
#if HWY_ARCH_ARM_A64 || (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2)  // below F16C Highway cuts
  const hn::Rebind<hwy::float16_t, F32Tag> d16;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::DemoteTo(d16, hn::LoadU(F32Tag(), in + i)), d16,
               reinterpret_cast<hwy::float16_t*>(out + 2 * i));
  }
#endif
  if (i < count) kF16Format.quantize(in + i, out + 2 * i, count - i);
}

void StoreBF16(const float* in, int64_t count, uint8_t* out) {
  const hn::Rebind<uint16_t, F32Tag> d16;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(RoundToBF16(hn::LoadU(F32Tag(), in + i)), d16,
               reinterpret_cast<uint16_t*>(out + 2 * i));
  }
  if (i < count) kBF16Format.quantize(in + i, out + 2 * i, count - i);
}

// As ToE4M3: to nearest even, saturating at 448.
HWY_INLINE hn::Vec<U32Tag> RoundToE4M3(F32Vec v) {
  const F32Tag d;
  const U32Tag du;
  const I32Tag di;
  const F32Vec magnitude = hn::Min(hn::Abs(v), hn::Set(d, kLargestE4M3));
  const auto bits = hn::BitCast(du, magnitude);
  // Exponents are 120 apart; 20 bits of the mantissa go.
  const auto odd = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<20>(
      hn::Add(hn::Sub(bits, hn::Set(du, 120u << 23)), hn::Add(hn::Set(du, 0x7ffff), odd)));
  const F32Vec steps = hn::Mul(magnitude, hn::Set(d, 0x1p9f));  // of 2^-9, below 2^-6
  const auto small = hn::BitCast(du, hn::NearestInt(steps));
  const auto is_small = hn::RebindMask(du, hn::Lt(magnitude, hn::Set(d, 0x1p-6f)));
  const auto chosen = hn::IfThenElse(is_small, small, rounded);
  const auto is_nan = hn::RebindMask(du, hn::IsNaN(v));
  const auto sign =
      hn::BitCast(du, hn::And(hn::ShiftRight<24>(hn::BitCast(di, v)), hn::Set(di, 0x80)));
  return hn::Or(sign, hn::IfThenElse(is_nan, hn::Set(du, 0x7f), chosen));
}

void StoreE4M3(const float* in, int64_t count, uint8_t* out) {
  const hn::Rebind<uint8_t, F32Tag> d8;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto bytes = hn::BitCast(I32Tag(), RoundToE4M3(hn::LoadU(F32Tag(), in + i)));
    hn::StoreU(hn::DemoteTo(d8, bytes), d8, out + i);
  }
  for (; i < count; ++i) out[i] = ToE4M3(in[i]);
}

// To the nearest integer, halves away from zero, at most 127; NaN becomes 0.
HWY_INLINE hn::Vec<I32Tag> RoundToInt8(F32Vec v) {
  const F32Tag d;
  const F32Vec number = hn::IfThenElseZero(hn::Eq(v, v), v);
  const F32Vec limited = hn::Max(hn::Min(number, hn::Set(d, 127.0f)), hn::Set(d, -127.0f));
  const F32Vec whole = hn::Trunc(limited);
  const auto up = hn::Ge(hn::Abs(hn::Sub(limited, whole)), hn::Set(d, 0.5f));
  const F32Vec away = hn::CopySign(hn::Set(d, 1.0f), limited);
  return hn::ConvertTo(I32Tag(), hn::Add(whole, hn::IfThenElseZero(up, away)));
}

void StoreQ8_0(const float* in, int64_t count, uint8_t* out) {
  const F32Tag d;
  const hn::Rebind<int8_t, F32Tag> d8;
  for (int64_t b = 0; b < count; b += kBlockValues, out += Q8_0Block::kBytes) {
    F32Vec largest = hn::Zero(d);
    for (int i = 0; i < kBlockValues; i += kLanes) {
      const F32Vec magnitude = hn::Abs(hn::LoadU(d, in + b + i));
      // No Max: of a NaN it may give either.
      largest = hn::IfThenElse(hn::Gt(magnitude, largest), magnitude, largest);
    }
    const float scale = hn::GetLane(hn::MaxOfLanes(d, largest)) / 127.0f;
    const F32Vec inverse = hn::Set(d, scale != 0 ? 1.0f / scale : 0.0f);
    const Float16 stored = ToFloat16(scale);
    std::memcpy(out, &stored, sizeof(stored));
    for (int i = 0; i < kBlockValues; i += kLanes) {
      const auto q = RoundToInt8(hn::Mul(hn::LoadU(d, in + b + i), inverse));
      hn::StoreU(hn::DemoteTo(d8, q), d8, reinterpret_cast<int8_t*>(out + 2 + i));
    }
  }
}

void StoreRounded(const float* in, const WeightFormat& format, uint8_t* out, int64_t count) {
  if (&format == &kF32Format) {
    std::memcpy(out, in, count * sizeof(float));
  } else if (&format == &kF16Format) {
    StoreF16(in, count, out);
  } else if (&format == &kBF16Format) {
    StoreBF16(in, count, out);
  } else if (&format == &kE4M3Format) {
    StoreE4M3(in, count, out);
  } else if (&format == &kQ8_0Format) {
    StoreQ8_0(in, count, out);
  } else {
    format.quantize(in, out, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(StoreRounded);

void StoreRounded(const float* in, const WeightFormat& format, uint8_t* out, int64_t count) {
  HWY_DYNAMIC_DISPATCH(StoreRounded)(in, format, out, count);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
