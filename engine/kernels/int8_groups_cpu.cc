// Products of checkpoints of quantisers, bitsandbytes' and integers in groups, with rounded
// activations.

#include "engine/format/int_groups.h"
#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/int8_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/int8_groups_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/int8_tiles-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

const Int8Format* FindInt8Group(const WeightFormat& /*format*/) { return nullptr; }

#else

// Number `i` of the formats of integers in groups, which has kColumns of them.
template <int kBits, class Scale, int kColumns>
constexpr Int8Format GroupsOf(int i) {
  using F = IntGroupInt8<kBits, Scale>;
  return FormatOf<F>(kIntGroupFormats[i], F::template kUnits<kColumns>);
}

const Int8Format* FindInt8Group(const WeightFormat& format) {
  static constexpr Int8Format kFormats[] = {
      FormatOf<BnbInt8>(kBnbInt8Format), GroupsOf<4, F16Element, 32>(0),
      GroupsOf<4, F16Element, 64>(1),    GroupsOf<4, F16Element, 128>(2),
      GroupsOf<4, BF16Element, 32>(3),   GroupsOf<4, BF16Element, 64>(4),
      GroupsOf<4, BF16Element, 128>(5),  GroupsOf<8, F16Element, 32>(6),
      GroupsOf<8, F16Element, 128>(7),   GroupsOf<8, BF16Element, 32>(8),
      GroupsOf<8, BF16Element, 128>(9),  GroupsOf<8, F32Element, 32>(10),
      GroupsOf<8, F32Element, 128>(11)};
  return FindIn(kFormats, format);
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(FindInt8Group);

const Int8Format* FindInt8Group(const WeightFormat& format) {
  return HWY_DYNAMIC_DISPATCH(FindInt8Group)(format);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
