#include "engine/runtime/sampler.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

absl::Status CheckRange(absl::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: wanted %.10g to %.10g, found %.10g", name, low, high, value));
}

}  // namespace

absl::Status ValidateSampler(const SamplerOptions& options) {
  RETURN_IF_ERROR(CheckRange("temperature", options.temperature, 0, 100));
  RETURN_IF_ERROR(CheckRange("top_k", options.top_k, 0, 1 << 30));
  RETURN_IF_ERROR(CheckRange("top_p", options.top_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("min_p", options.min_p, 0, 1));
  return CheckRange("repetition_penalty", options.repetition_penalty, 0.01, 100);
}

absl::Status NoFiniteLogit() {
  return absl::InternalError("the model gave no finite logit: its weights may be damaged");
}

Sampler::Sampler(const SamplerOptions& options) : random_(options.seed) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLargestScale = 1e30;  // its products with zero stay zero
  if (options.temperature > 0) {
    request_.scale = static_cast<float>(std::min(kLog2E / options.temperature, kLargestScale));
  }
  request_.penalty = options.repetition_penalty;
  request_.top_k = options.top_k;
  request_.top_p = options.top_p;
  if (options.min_p > 0) {
    const double halvings = std::min<double>(-std::log2(options.min_p), kWeightBits);
    request_.reach = static_cast<uint32_t>(std::ldexp(halvings, kDistanceBits));
  }
}

SampleRequest Sampler::Next() {
  SampleRequest request = request_;
  if (request.scale > 0) request.random = random_();
  return request;
}

}  // namespace tprun
