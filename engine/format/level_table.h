#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace tprun {

// The 16 levels of iq4_nl and iq4_xs (ggml's kvalues_iq4nl).
inline constexpr std::array<int8_t, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

// The index of the level nearest to x, of levels in any order; the first of equals.
template <class Levels>
int NearestLevel(const Levels& levels, float x) {
  int best = 0;
  for (size_t i = 1; i < levels.size(); ++i) {
    if (std::fabs(static_cast<float>(levels[i]) - x) <
        std::fabs(static_cast<float>(levels[best]) - x)) {
      best = static_cast<int>(i);
    }
  }
  return best;
}

// The scale for which `count` values are nearest to scale * level, by least squares over a few
// candidates. 0 when all values are 0.
inline float FitLevels(const float* x, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) {
    if (std::isfinite(x[i]) && std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  if (largest == 0) return 0;
  double best_gain = 0;
  float best = 0;
  for (int step = -7; step <= 7; ++step) {
    // The largest value at the lowest level or at the highest, or a little beside.
    for (const int level : {kIq4Levels.front(), kIq4Levels.back()}) {
      const float inverse = static_cast<float>(level + step) / largest;
      double xq = 0;
      double qq = 0;
      for (int i = 0; i < count; ++i) {
        const double value = std::isfinite(x[i]) ? x[i] : 0;
        const double q = kIq4Levels[NearestLevel(kIq4Levels, static_cast<float>(value) * inverse)];
        xq += value * q;
        qq += q * q;
      }
      if (qq <= 0 || xq * xq <= best_gain * qq) continue;
      best_gain = xq * xq / qq;
      best = static_cast<float>(xq / qq);
    }
  }
  return best;
}

}  // namespace tprun
