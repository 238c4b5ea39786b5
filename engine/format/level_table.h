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

// The scale for which `count` <= 32 values are nearest to scale * level of kIq4Levels, by least
// squares over a few candidates. 0 when all values are 0.
float FitLevels(const float* x, int count);

}  // namespace tprun
