#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"

namespace tprun {

// The 12 bytes of q4_k and q5_k with a scale and a minimum of 6 bits for each of 8 groups of 32.
struct ScaleAndMin {
  int scale = 0;
  int min = 0;
};

inline ScaleAndMin KScaleOf(const uint8_t* scales, int group) {
  if (group < 4) return {scales[group] & 63, scales[group + 4] & 63};
  return {(scales[group + 4] & 15) | (scales[group - 4] >> 6) << 4,
          (scales[group + 4] >> 4) | (scales[group] >> 6) << 4};
}

// The bytes were zeroed before the first group.
inline void PutKScale(ScaleAndMin value, int group, uint8_t* scales) {
  const auto put = [scales](int index, int bits) {
    scales[index] = static_cast<uint8_t>(scales[index] | bits);
  };
  if (group < 4) {
    put(group, value.scale);
    put(group + 4, value.min);
    return;
  }
  put(group + 4, (value.scale & 15) | (value.min & 15) << 4);
  put(group - 4, (value.scale >> 4) << 6);
  put(group, (value.min >> 4) << 6);
}

// Encodes 256 values with offsets: d at block[0], dmin at block[2], scales at block + 4; `put` gets
// each value's level in [0, most].
template <class Put>
void EncodeWithKScales(const float* in, int most, uint8_t* block, Put put) {
  constexpr int kGroups = 8;
  constexpr int kGroup = 32;
  std::array<OffsetFit, kGroups> fits;
  OffsetFit largest;
  for (int g = 0; g < kGroups; ++g) {
    fits[g] = FitScaleAndMin(in + g * kGroup, kGroup, most);
    largest.scale = std::max(largest.scale, fits[g].scale);
    largest.min = std::max(largest.min, fits[g].min);
  }
  PutHalf(largest.scale / 63, block);
  PutHalf(largest.min / 63, block + 2);
  const float d = HalfAt(block);
  const float dmin = HalfAt(block + 2);
  for (int g = 0; g < kGroups; ++g) {
    const ScaleAndMin scale = {d > 0 ? RoundTo(fits[g].scale / d, 0, 63) : 0,
                               dmin > 0 ? RoundTo(fits[g].min / dmin, 0, 63) : 0};
    PutKScale(scale, g, block + 4);
    const float step = d * static_cast<float>(scale.scale);
    const float min = dmin * static_cast<float>(scale.min);
    for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
      put(i, step > 0 ? RoundTo((in[i] + min) / step, 0, most) : 0);
    }
  }
}

}  // namespace tprun
