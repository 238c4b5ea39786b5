// Activations rounded to 8 or 16 bits, a scale per block of the weights that they meet.

#include <algorithm>
#include <cfloat>
#include <cstring>

#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/int8_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/int8_quantize_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/int8_dot-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

void QuantizeTokens(const Int8Format&, int, const float*, int64_t, int64_t, int64_t, int64_t,
                    Int8Panel*) {}

#else

// The largest magnitude of a block; not finite where a value is not: as whole numbers the bits of
// magnitudes are in their order, and above all of them those of infinity and of what is no number.
HWY_INLINE float LargestOf(const float* x, int64_t count) {
  const F32Tag d;
  const I32Tag di;
  I32Vec most = hn::Zero(di);
  for (int64_t i = 0; i < count; i += kLanes) {
    most = hn::Max(most, hn::BitCast(di, hn::Abs(hn::LoadU(d, x + i))));
  }
  return hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, most)));
}

// Rounds a group; whole: the sums of its halves, or of all in the first.
HWY_INLINE void QuantizeGroup(const Int8Format& format, int planes, const float* x, float scale,
                              float inverse, Int8Group& out, int32_t (&whole)[2]) {
  const F32Tag d;
  const I32Tag di;
  const hn::Rebind<int8_t, F32Tag> d8;
  I32Vec sums[2] = {hn::Zero(di), hn::Zero(di)};
  for (int i = 0; i < kGroupColumns; i += kLanes) {
    const I32Vec q = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    sums[i / 16] = hn::Add(sums[i / 16], q);
    const I32Vec high = planes == 1 ? q : hn::ShiftRight<8>(hn::Add(q, hn::Set(di, 128)));
    hn::StoreU(hn::DemoteTo(d8, high), d8, out.q[0] + i);
    if (planes == 1) continue;
    const I32Vec low = hn::Sub(q, hn::ShiftLeft<8>(high));
    hn::StoreU(hn::DemoteTo(d8, low), d8, out.q[1] + i);
  }
  if (!format.halves) sums[0] = hn::Add(sums[0], sums[1]);
  whole[0] = hn::GetLane(hn::SumOfLanes(di, sums[0]));
  whole[1] = format.halves ? hn::GetLane(hn::SumOfLanes(di, sums[1])) : 0;
  for (int p = 0; format.pairs && p < planes; ++p) {
    int8_t columns[kGroupColumns];
    std::memcpy(columns, out.q[p], sizeof(columns));
    for (int i = 0; i < kGroupColumns; ++i) out.q[p][i] = columns[PairedColumn(i)];
  }
  out.scale = scale;
  out.sum = static_cast<float>(whole[0] + whole[1]);
  for (int i = 0; i < 2; ++i) out.start[i] = -format.offset * whole[i];
}

// A sum of values in parts, the last of which takes what is left: see Int8Group.
void CutSum(int32_t sum, int64_t at, Int8Group& out) {
  constexpr int32_t kHalf = 1 << (kSumPartBits - 1);
  for (int part = 0; part < 2; ++part) {
    const int32_t low = ((sum + kHalf) & (2 * kHalf - 1)) - kHalf;
    out.sum_parts[part][at] = static_cast<int8_t>(low);
    sum = (sum - low) / (2 * kHalf);
  }
  out.sum_parts[2][at] = static_cast<int8_t>(sum);
}

constexpr float kZeros[kGroupColumns] = {};

void QuantizeTokens(const Int8Format& format, int planes, const float* x, int64_t columns,
                    int64_t tokens, int64_t token_begin, int64_t token_end, Int8Panel* out) {
  const int64_t block = format.format->block_elements;
  const int parts = format.halves ? 2 : 1;             // of a group
  const float levels = planes == 1 ? 127 : 127 * 256;  // so that both planes have 8 bits
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t c = 0; c < columns; c += block) {
      const int64_t first = c / kGroupColumns;
      const float* values = x + t * columns + c;
      const float scale = LargestOf(values, block) / levels;
      const float inverse = scale > FLT_MIN ? 1 / scale : 0;  // else 1 / scale may overflow
      Int8Group* groups =                                     // of the block
          out[first / kPanelGroups * tokens + t].groups + first % kPanelGroups;
      for (int64_t g = 0; g < block / kGroupColumns; ++g) {
        // A block that is zero or not finite: its scale alone tells.
        const float* from = inverse == 0 ? kZeros : values + g * kGroupColumns;
        int32_t sums[2];
        QuantizeGroup(format, planes, from, scale, inverse, groups[g], sums);
        if (!format.byte_minima) continue;
        for (int half = 0; half < parts; ++half) {
          const int64_t i = g * parts + half;
          CutSum(sums[half], i % 4, groups[i / 4 * 4 / parts]);
        }
      }
    }
  }
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(QuantizeTokens);

void QuantizeTokens(const Int8Format& format, int planes, const float* x, int64_t columns,
                    int64_t tokens, int64_t token_begin, int64_t token_end, Int8Panel* out) {
  HWY_DYNAMIC_DISPATCH(QuantizeTokens)
  (format, planes, x, columns, tokens, token_begin, token_end, out);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
