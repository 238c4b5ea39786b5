#include "engine/format/fit_scale.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace tprun {
namespace {

constexpr int kSteps =
    20;  // candidates on either side of the plain choice, a tenth of a level each
constexpr int kCandidates = kSteps + 1;
constexpr int kLanes = 24;  // candidates, and some more so that whole vectors go over them

// One number of each candidate: the loops over them become vector instructions, and each sum is
// formed in the order of the values, whatever their width.
using Lanes = std::array<float, kLanes>;

float Finite(float x) { return std::isfinite(x) ? x : 0; }

// Half to even, of |x| < 2^22: the sum has no bits left for a fraction.
float Rounded(float x) {
  constexpr float kShift = 12582912;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

float SignedMax(const float* x, int count) {
  float max = 0;
  for (int i = 0; i < count; ++i) {
    if (std::fabs(Finite(x[i])) > std::fabs(max)) max = x[i];
  }
  return max;
}

// Candidates for the levels that the largest value gets.
Lanes LevelsAround(float plain) {
  Lanes levels;
  for (int s = 0; s < kLanes; ++s) levels[s] = plain + 0.1f * static_cast<float>(s - kSteps / 2);
  return levels;
}

// For each candidate the sums of q, q^2 and relative q, where q is x times its factor, rounded in
// [low, high]; `relative` is x in a unit in which it is at most one.
struct CandidateSums {
  Lanes q = {}, qq = {}, xq = {};
};

CandidateSums SumUp(const float* x, const float* relative, int count, const Lanes& factor,
                    float low, float high) {
  CandidateSums sums;
  for (int i = 0; i < count; ++i) {
    for (int s = 0; s < kLanes; ++s) {
      const float level = Rounded(x[i] * factor[s]);
      const float q = level < low ? low : level > high ? high : level;
      sums.q[s] += q;
      sums.qq[s] += q * q;
      sums.xq[s] += relative[i] * q;
    }
  }
  return sums;
}

// The sums of a straight-line fit of x over q, of count w.
struct Sums {
  double w = 0, q = 0, qq = 0, x = 0, xq = 0;
};

// The line with the least squared error, its offset at most 0.
struct Line {
  double scale = 0;
  double offset = 0;
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
  return line;
}

// The candidate whose line through (q, x), with an offset of at most `most_offset`, has the least
// squared error. kLanes: none has a rising one.
int BestLine(const CandidateSums& sums, float count, float total, float most_offset) {
  Lanes slope, error;
  for (int s = 0; s < kLanes; ++s) {
    const float q = sums.q[s], qq = sums.qq[s], xq = sums.xq[s];
    const float determinant = count * qq - q * q;
    const float inverse = 1 / (determinant > 0 ? determinant : 1);
    const float free_offset = (qq * total - q * xq) * inverse;
    const bool is_free = (determinant > 0) & (free_offset <= most_offset);
    const float bound_slope = (xq - most_offset * q) / (qq > 0 ? qq : 1);
    const float a = is_free ? (count * xq - total * q) * inverse : bound_slope;
    const float b = is_free ? free_offset : most_offset;
    slope[s] = a;
    error[s] = a * a * qq + b * b * count + 2 * a * b * q - 2 * a * xq - 2 * b * total;
  }
  int best = kLanes;
  for (int s = 0; s < kCandidates; ++s) {
    if (slope[s] > 0 && (best == kLanes || error[s] < error[best])) best = s;
  }
  return best;
}

}  // namespace

int RoundTo(float value, int low, int high) {
  if (std::isnan(value)) return std::clamp(0, low, high);
  return static_cast<int>(
      std::lrint(std::clamp(value, static_cast<float>(low), static_cast<float>(high))));
}

float FitScale(const float* x, int count, int levels) {
  const float max = SignedMax(x, count);
  if (max == 0) return 0;
  // The value of largest magnitude gets the level -levels, of which there is one more.
  const auto most = static_cast<float>(levels);
  Lanes factor = LevelsAround(most);
  for (float& level : factor) level = -level / max;
  if (!std::isfinite(factor.back())) return 0;  // next to nothing
  float finite[kMostFitted], relative[kMostFitted];
  for (int i = 0; i < count; ++i) {
    finite[i] = Finite(x[i]);
    relative[i] = -finite[i] / max;
  }
  const CandidateSums sums = SumUp(finite, relative, count, factor, -most, most - 1);
  // Of candidates that are as good, the one of the smallest scale, as the scales of a block share a
  // step: all are, where one value outweighs the others.
  constexpr float kBetter = 1 + 1e-5f;
  float best_gain = 0;
  float best = 0;
  for (int s = kCandidates - 1; s >= 0; --s) {
    const float qq = sums.qq[s], xq = sums.xq[s];
    if (!(xq * xq > kBetter * best_gain * qq)) continue;
    best_gain = xq * xq / qq;
    best = xq / qq;
  }
  return -max * best;
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
  const float range = high - low;
  if (!std::isfinite(range)) return best;
  float relative[kMostFitted];
  float total = 0;
  for (int i = 0; i < count; ++i) {
    relative[i] = (Finite(x[i]) - low) / range;
    total += relative[i];
  }
  const auto levels = static_cast<float>(most);
  const CandidateSums sums = SumUp(relative, relative, count, LevelsAround(levels), 0, levels);
  const int s = BestLine(sums, static_cast<float>(count), total, -low / range);
  if (s == kLanes) return best;
  // Of x = range * relative + low.
  const Line line = SolveLine(
      {.w = static_cast<double>(count),
       .q = sums.q[s],
       .qq = sums.qq[s],
       .x = static_cast<double>(range) * total + static_cast<double>(low) * count,
       .xq = static_cast<double>(range) * sums.xq[s] + static_cast<double>(low) * sums.q[s]});
  if (line.scale > 0) {
    best = {.scale = static_cast<float>(line.scale), .min = static_cast<float>(-line.offset)};
  }
  return best;
}

}  // namespace tprun
