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

double Scale(const RopeSpec& rope, double frequency) {
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return frequency;
    case RopeScaling::kLinear:
      return frequency / rope.factor;
    case RopeScaling::kLlama3:
      return ScaleLlama3(rope, frequency);
    case RopeScaling::kYarn:
    case RopeScaling::kLongRope:
      break;  // such models are not run, see CheckRunnable
  }
  return frequency;
}

}  // namespace

void InverseFrequencies(const RopeSpec& rope, const float* factors, float* out) {
  for (int i = 0; i < rope.dims / 2; ++i) {
    double frequency = Scale(rope, std::pow(rope.theta, -2.0 * i / rope.dims));
    if (factors != nullptr) frequency /= factors[i];
    out[i] = static_cast<float>(frequency);
  }
}

}  // namespace tprun
