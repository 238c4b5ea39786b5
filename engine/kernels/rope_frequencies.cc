#include <algorithm>
#include <cmath>

#include "engine/kernels/kernels.h"

namespace tprun {
namespace {

constexpr double kPi = 3.14159265358979323846;

// meta-llama/llama-models, models/llama3/model.py: long wavelengths are stretched by `factor`,
// short ones kept, those between interpolated.
double ScaleLlama3(const RopeSpec& rope, double frequency) {
  const double wavelength = 2 * kPi / frequency;
  const double context = static_cast<double>(rope.original_context_length);
  if (wavelength < context / rope.high_freq_factor) return frequency;
  if (wavelength > context / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

// The pair whose wavelength turns `turns` times within the original context.
double PairOfTurns(const RopeSpec& rope, double turns) {
  const double context = static_cast<double>(rope.original_context_length);
  return rope.dims * std::log(context / (turns * 2 * kPi)) / (2 * std::log(rope.theta));
}

// arXiv 2309.00071, in the form of Hugging Face's _compute_yarn_parameters: pairs before the first
// border are kept, those after the second divided by factor, those between interpolated.
double ScaleYarn(const RopeSpec& rope, int pair, double frequency) {
  double low = PairOfTurns(rope, rope.beta_fast);
  double high = PairOfTurns(rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rope.dims - 1.0);
  if (low == high) high += 0.001;
  const double divided = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return frequency / rope.factor * divided + frequency * (1 - divided);
}

double Scale(const RopeSpec& rope, int pair, double frequency) {
  switch (rope.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kLongRope:  // by factors alone
      return frequency;
    case RopeScaling::kLinear:
      return frequency / rope.factor;
    case RopeScaling::kLlama3:
      return ScaleLlama3(rope, frequency);
    case RopeScaling::kYarn:
      return ScaleYarn(rope, pair, frequency);
  }
  return frequency;
}

}  // namespace

// One choice for a whole cache: keys that were rotated by other frequencies than a query would be
// compared with it in vain. (llama.cpp chooses so too; transformers by the tokens of a step, and
// computes the whole cache anew at the border.)
const std::vector<float>& FactorsFor(const RopeSpec& rope, int64_t context) {
  const bool beyond =
      rope.scaling == RopeScaling::kLongRope && context > rope.original_context_length;
  return beyond ? rope.long_factors : rope.factors;
}

void InverseFrequencies(const RopeSpec& rope, const float* factors, float* out) {
  for (int i = 0; i < rope.dims / 2; ++i) {
    double frequency = Scale(rope, i, std::pow(rope.theta, -2.0 * i / rope.dims));
    if (factors != nullptr) frequency /= factors[i];
    out[i] = static_cast<float>(frequency);
  }
}

}  // namespace tprun
