#include "engine/format/level_table.h"

#include <algorithm>

namespace tprun {
namespace {

constexpr int kSteps = 7;  // candidates on either side of two levels
constexpr int kCandidates = 2 * (2 * kSteps + 1);
constexpr int kLanes = 32;  // candidates, and some more so that whole vectors go over them
constexpr int kMostFitted = 32;

// As fit_scale.cc: loops over candidates become vector instructions.
using Lanes = std::array<float, kLanes>;

// The level nearest to x: the lowest, and a step for each middle between two that x is beyond.
float NearestIq4(float x) {
  float level = kIq4Levels[0];
  for (size_t i = 1; i < kIq4Levels.size(); ++i) {
    const auto below = static_cast<float>(kIq4Levels[i - 1]);
    const auto above = static_cast<float>(kIq4Levels[i]);
    level += x > (below + above) / 2 ? above - below : 0;
  }
  return level;
}

}  // namespace

float FitLevels(const float* x, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) {
    if (std::isfinite(x[i]) && std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  if (largest == 0) return 0;
  float relative[kMostFitted];
  for (int i = 0; i < count; ++i) relative[i] = std::isfinite(x[i]) ? x[i] / largest : 0;
  // The largest value at the lowest level or at the highest, or a little beside.
  Lanes factor = {}, xq = {}, qq = {};
  for (int s = 0; s < kCandidates; ++s) {
    const int level = s % 2 == 0 ? kIq4Levels.front() : kIq4Levels.back();
    factor[s] = static_cast<float>(level + s / 2 - kSteps);
  }
  for (int i = 0; i < count; ++i) {
    for (int s = 0; s < kLanes; ++s) {
      const float q = NearestIq4(relative[i] * factor[s]);
      xq[s] += relative[i] * q;
      qq[s] += q * q;
    }
  }
  float best_gain = 0;
  float best = 0;
  for (int s = 0; s < kCandidates; ++s) {
    if (xq[s] * xq[s] <= best_gain * qq[s]) continue;
    best_gain = xq[s] * xq[s] / qq[s];
    best = xq[s] / qq[s];
  }
  return largest * best;
}

}  // namespace tprun
