#include "engine/format/fit_scale.h"

#include <algorithm>
#include <cmath>

namespace tprun {
namespace {

constexpr int kSteps =
    20;  // candidates on either side of the plain choice, a tenth of a level each

float Finite(float x) { return std::isfinite(x) ? x : 0; }

float SignedMax(const float* x, int count) {
  float max = 0;
  for (int i = 0; i < count; ++i) {
    if (std::fabs(Finite(x[i])) > std::fabs(max)) max = x[i];
  }
  return max;
}

// The sums of a straight-line fit of x over q.
struct Sums {
  double w = 0, q = 0, qq = 0, x = 0, xq = 0;
};

// The line with the least squared error, its offset at most 0; `error` leaves out sum(x^2).
struct Line {
  double scale = 0;
  double offset = 0;
  double error = 0;
};

Line SolveLine(const Sums& s) {
  Line line;
  const double determinant = s.w * s.qq - s.q * s.q;
  if (determinant > 0) {
    line.scale = (s.w * s.xq - s.x * s.q) / determinant;
    line.offset = (s.qq * s.x - s.q * s.xq) / determinant;
  }
  if (determinant <= 0 || line.offset > 0) {
    line.offset = 0;
    line.scale = s.qq > 0 ? s.xq / s.qq : 0;
  }
  line.error = line.scale * line.scale * s.qq + line.offset * line.offset * s.w +
               2 * line.scale * line.offset * s.q - 2 * line.scale * s.xq - 2 * line.offset * s.x;
  return line;
}

}  // namespace

int RoundTo(float value, int low, int high) {
  if (std::isnan(value)) return std::clamp(0, low, high);
  return static_cast<int>(
      std::lrint(std::clamp(value, static_cast<float>(low), static_cast<float>(high))));
}

SymmetricFit FitScale(const float* x, int count, int levels) {
  SymmetricFit best;
  const float max = SignedMax(x, count);
  if (max == 0) return best;
  double best_gain = 0;
  for (int step = -kSteps / 2; step <= kSteps / 2; ++step) {
    // The value of largest magnitude gets the level -levels, of which there is one more.
    const float inverse = -(static_cast<float>(levels) + 0.1f * static_cast<float>(step)) / max;
    SymmetricFit fit;
    double xq = 0;
    double qq = 0;
    for (int i = 0; i < count; ++i) {
      const int q = RoundTo(Finite(x[i]) * inverse, -levels, levels - 1);
      fit.q[i] = static_cast<int8_t>(q);
      xq += Finite(x[i]) * q;
      qq += q * q;
    }
    if (qq <= 0 || xq * xq <= best_gain * qq) continue;
    best_gain = xq * xq / qq;
    fit.scale = static_cast<float>(xq / qq);
    best = fit;
  }
  return best;
}

OffsetFit FitScaleAndMin(const float* x, int count, int most) {
  float low = 0;
  float high = 0;
  for (int i = 0; i < count; ++i) {
    low = std::min(low, Finite(x[i]));
    high = std::max(high, Finite(x[i]));
  }
  OffsetFit best = {.scale = 0, .min = -low};
  if (high <= low) return best;
  double least = 0;
  bool first = true;
  for (int step = -kSteps / 2; step <= kSteps / 2; ++step) {
    const float inverse =
        (static_cast<float>(most) + 0.1f * static_cast<float>(step)) / (high - low);
    Sums sums;
    for (int i = 0; i < count; ++i) {
      const double q = RoundTo((Finite(x[i]) - low) * inverse, 0, most);
      sums.w += 1;
      sums.q += q;
      sums.qq += q * q;
      sums.x += Finite(x[i]);
      sums.xq += Finite(x[i]) * q;
    }
    const Line line = SolveLine(sums);
    if (line.scale <= 0 || (!first && line.error >= least)) continue;
    first = false;
    least = line.error;
    best = {.scale = static_cast<float>(line.scale), .min = static_cast<float>(-line.offset)};
  }
  return best;
}

}  // namespace tprun
