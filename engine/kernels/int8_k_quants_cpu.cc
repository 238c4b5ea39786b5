// Products of K-quants with rounded activations.

#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/int8_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/int8_k_quants_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/int8_tiles-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

const Int8Format* FindInt8KQuant(const WeightFormat& /*format*/) { return nullptr; }

#else

const Int8Format* FindInt8KQuant(const WeightFormat& format) {
  static constexpr Int8Format kFormats[] = {
      FormatOf<Q4_KInt8>(kQ4_KFormat), FormatOf<Q5_KInt8>(kQ5_KFormat),
      FormatOf<Q6_KInt8>(kQ6_KFormat), FormatOf<Q3_KInt8>(kQ3_KFormat),
      FormatOf<Q2_KInt8>(kQ2_KFormat)};
  return FindIn(kFormats, format);
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(FindInt8KQuant);

const Int8Format* FindInt8KQuant(const WeightFormat& format) {
  return HWY_DYNAMIC_DISPATCH(FindInt8KQuant)(format);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
