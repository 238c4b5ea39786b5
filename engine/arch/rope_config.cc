#include "engine/arch/rope_config.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/model_config.h"

namespace tprun {
namespace {

absl::Status CheckPositive(absl::string_view what, double value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", what, "\": wanted a positive number, found ", value));
}

// The attention factor of arXiv 2309.00071, section 3.4, with DeepSeek's two exponents as in
// Hugging Face's _compute_yarn_parameters. GGUF files of DeepSeek fold them into the attention's
// scale.
absl::StatusOr<double> YarnMagnitude(const Json& scaling, double factor) {
  ASSIGN_OR_RETURN(const double given, GetDoubleOr(scaling, "attention_factor", 0));
  if (given != 0) return given;
  if (FindMember(scaling, "yarn_log_multiplier") != nullptr) return 1;
  ASSIGN_OR_RETURN(const double mscale, GetDoubleOr(scaling, "mscale", 0));
  ASSIGN_OR_RETURN(const double all_dim, GetDoubleOr(scaling, "mscale_all_dim", 0));
  if (mscale != 0 && all_dim != 0) return YarnScale(factor, mscale) / YarnScale(factor, all_dim);
  return YarnScale(factor, 1);
}

absl::Status ReadYarn(const Json& scaling, int64_t context_length, RopeSpec& rope) {
  rope.scaling = RopeScaling::kYarn;
  ASSIGN_OR_RETURN(rope.factor, GetDouble(scaling, "factor"));
  RETURN_IF_ERROR(CheckPositive("factor", rope.factor));
  ASSIGN_OR_RETURN(
      rope.original_context_length,
      GetCountOr(scaling, "original_max_position_embeddings", 1 << 30, context_length));
  ASSIGN_OR_RETURN(rope.beta_fast, GetDoubleOr(scaling, "beta_fast", 32));
  ASSIGN_OR_RETURN(rope.beta_slow, GetDoubleOr(scaling, "beta_slow", 1));
  RETURN_IF_ERROR(CheckPositive("beta_fast", rope.beta_fast));
  RETURN_IF_ERROR(CheckPositive("beta_slow", rope.beta_slow));
  ASSIGN_OR_RETURN(rope.truncate, GetBoolOr(scaling, "truncate", true));
  ASSIGN_OR_RETURN(const double magnitude, YarnMagnitude(scaling, rope.factor));
  RETURN_IF_ERROR(CheckPositive("attention_factor", magnitude));
  rope.magnitude = static_cast<float>(magnitude);
  return absl::OkStatus();
}

// One divisor per pair of rotated elements.
absl::Status ReadDivisors(const Json& scaling, absl::string_view key, int dims,
                          std::vector<float>& divisors) {
  const Json* list = FindMember(scaling, key);
  const auto wanted = static_cast<size_t>(dims / 2);
  if (list == nullptr || !list->is_array() || list->size() != wanted) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted a list of ", wanted,
                                                   " numbers, one per pair of rotated elements"));
  }
  divisors.clear();  // a config may have its scaling twice
  for (const Json& entry : *list) {
    RETURN_IF_ERROR(CheckPositive(key, entry.is_number() ? entry.get<double>() : 0));
    divisors.push_back(static_cast<float>(entry.get<double>()));
  }
  return absl::OkStatus();
}

// arXiv 2402.13753, in the form of Hugging Face's _compute_longrope_parameters. GGUF has the
// divisors as tensors.
absl::Status ReadLongRope(const Json& config, const Json& scaling, int64_t context_length,
                          RopeSpec& rope) {
  rope.scaling = RopeScaling::kLongRope;
  constexpr char kOriginal[] = "original_max_position_embeddings";
  ASSIGN_OR_RETURN(const int64_t outside, GetCountOr(config, kOriginal, 1 << 30, context_length));
  ASSIGN_OR_RETURN(rope.original_context_length, GetCountOr(scaling, kOriginal, 1 << 30, outside));
  const auto original = static_cast<double>(rope.original_context_length);
  const double ratio = static_cast<double>(context_length) / original;
  ASSIGN_OR_RETURN(rope.factor, GetDoubleOr(scaling, "factor", ratio));
  RETURN_IF_ERROR(CheckPositive("factor", rope.factor));
  const bool gguf = FindMember(config, "_gguf") != nullptr;
  const bool grows = rope.factor > 1 && original > 1 && !gguf;
  const double growth = grows ? std::sqrt(1 + std::log(rope.factor) / std::log(original)) : 1;
  ASSIGN_OR_RETURN(const double magnitude, GetDoubleOr(scaling, "attention_factor", growth));
  RETURN_IF_ERROR(CheckPositive("attention_factor", magnitude));
  rope.magnitude = static_cast<float>(magnitude);
  if (gguf) return absl::OkStatus();
  RETURN_IF_ERROR(ReadDivisors(scaling, "short_factor", rope.dims, rope.factors));
  return ReadDivisors(scaling, "long_factor", rope.dims, rope.long_factors);
}

// Hugging Face keeps scaling in "rope_scaling", from version 5 on in "rope_parameters" with
// rope_theta inside.
absl::Status ReadRopeScaling(const Json& config, const Json& scaling, int64_t context_length,
                             RopeSpec& rope) {
  ASSIGN_OR_RETURN(std::string type, GetStringOr(scaling, "rope_type", ""));
  if (type.empty()) {
    ASSIGN_OR_RETURN(type, GetStringOr(scaling, "type", "default"));
  }
  if (type == "default" || type == "none") return absl::OkStatus();
  if (type == "yarn") return ReadYarn(scaling, context_length, rope);
  if (type == "longrope" || type == "su")
    return ReadLongRope(config, scaling, context_length, rope);
  if (type != "linear" && type != "llama3") {
    return absl::InvalidArgumentError(
        absl::StrCat("rope scaling \"", type,
                     "\" is not supported; supported: default, linear, llama3, yarn, longrope"));
  }
  rope.scaling = type == "linear" ? RopeScaling::kLinear : RopeScaling::kLlama3;
  ASSIGN_OR_RETURN(rope.factor, GetDouble(scaling, "factor"));
  RETURN_IF_ERROR(CheckPositive("factor", rope.factor));
  if (rope.scaling == RopeScaling::kLinear) return absl::OkStatus();
  ASSIGN_OR_RETURN(rope.low_freq_factor, GetDouble(scaling, "low_freq_factor"));
  ASSIGN_OR_RETURN(rope.high_freq_factor, GetDouble(scaling, "high_freq_factor"));
  if (!(rope.high_freq_factor > rope.low_freq_factor) || !(rope.low_freq_factor > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope scaling wants 0 < low_freq_factor < high_freq_factor, found ",
                     rope.low_freq_factor, " and ", rope.high_freq_factor));
  }
  ASSIGN_OR_RETURN(rope.original_context_length,
                   GetCount(scaling, "original_max_position_embeddings", 1 << 30));
  return absl::OkStatus();
}

// Rotated elements at the start of each head.
absl::StatusOr<int> ReadDims(const Json& config, int head_dim) {
  double partial = 1;
  for (const Json* from : {&config, FindMember(config, "rope_parameters")}) {
    if (from == nullptr) continue;
    ASSIGN_OR_RETURN(partial, GetDoubleOr(*from, "partial_rotary_factor", partial));
  }
  if (!(partial > 0) || partial > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"partial_rotary_factor\": wanted a number in (0, 1], found ", partial));
  }
  ASSIGN_OR_RETURN(const int64_t dims, GetCountOr(config, "rope_dimension_count", head_dim,
                                                  static_cast<int64_t>(head_dim * partial)));
  if (dims % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rotary embeddings need an even number of elements per head, found ", dims));
  }
  return static_cast<int>(dims);
}

}  // namespace

absl::StatusOr<RopeSpec> ReadRope(const Json& config, int64_t context_length, int head_dim) {
  RopeSpec rope;
  ASSIGN_OR_RETURN(rope.dims, ReadDims(config, head_dim));
  ASSIGN_OR_RETURN(rope.theta, GetDoubleOr(config, "rope_theta", 10000));
  for (absl::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* scaling = FindMember(config, key);
    if (scaling == nullptr) continue;
    if (!scaling->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted an object"));
    }
    ASSIGN_OR_RETURN(rope.theta, GetDoubleOr(*scaling, "rope_theta", rope.theta));
    RETURN_IF_ERROR(Annotate(ReadRopeScaling(config, *scaling, context_length, rope), key));
  }
  RETURN_IF_ERROR(CheckPositive("rope_theta", rope.theta));
  return rope;
}

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

}  // namespace tprun
