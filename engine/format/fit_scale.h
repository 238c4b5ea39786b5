#pragma once

#include <cstdint>

namespace tprun {

// How quantisers choose scales: by least squares over a few candidates, as is usual for these
// formats. Values that are not finite count as 0.

inline constexpr int kMostFitted = 32;  // values that share a scale

// The scale of x[i] ~ scale * q[i], q in [-levels, levels - 1]; 0 when all values are.
float FitScale(const float* x, int count, int levels);

// x[i] ~ scale * q[i] - min, q in [0, most], min >= 0.
struct OffsetFit {
  float scale = 0;
  float min = 0;
};
OffsetFit FitScaleAndMin(const float* x, int count, int most);

// The whole number nearest to `value`, in [low, high]; 0 (or low) for NaN.
int RoundTo(float value, int low, int high);

}  // namespace tprun
