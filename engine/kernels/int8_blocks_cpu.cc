// Products of formats in blocks of 32 columns, and iq4_xs, with rounded activations.

#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/int8_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/int8_blocks_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/int8_tiles-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

const Int8Format* FindInt8Block(const WeightFormat& /*format*/) { return nullptr; }

#else

const Int8Format* FindInt8Block(const WeightFormat& format) {
  static constexpr Int8Format kFormats[] = {
      FormatOf<Q8_0Int8>(kQ8_0Format),   FormatOf<Q4_0Int8>(kQ4_0Format),
      FormatOf<Q4_1Int8>(kQ4_1Format),   FormatOf<Q5_0Int8>(kQ5_0Format),
      FormatOf<Q5_1Int8>(kQ5_1Format),   FormatOf<Iq4NlInt8>(kIq4NlFormat),
      FormatOf<Iq4XsInt8>(kIq4XsFormat), FormatOf<Mxfp4Int8>(kMxfp4Format)};
  return FindIn(kFormats, format);
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(FindInt8Block);

const Int8Format* FindInt8Block(const WeightFormat& format) {
  return HWY_DYNAMIC_DISPATCH(FindInt8Block)(format);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
