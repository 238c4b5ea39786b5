#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "partition/calibration.h"

namespace tprun {
namespace {

absl::StatusOr<double> Positive(const Json& json, absl::string_view key, double most) {
  ASSIGN_OR_RETURN(const double value, GetDouble(json, key));
  if (std::isfinite(value) && value >= 0 && value <= most) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted 0 to ", most, ", found ", value));
}

absl::StatusOr<EfficiencyRule> RuleFromJson(const Json& json) {
  EfficiencyRule rule;
  ASSIGN_OR_RETURN(rule.device, GetStringOr(json, "device", ""));
  ASSIGN_OR_RETURN(rule.family, GetStringOr(json, "family", ""));
  ASSIGN_OR_RETURN(rule.format, GetStringOr(json, "format", ""));
  ASSIGN_OR_RETURN(rule.efficiency.memory, Positive(json, "memory", kMostEfficiency.memory));
  ASSIGN_OR_RETURN(rule.efficiency.compute, Positive(json, "compute", kMostEfficiency.compute));
  ASSIGN_OR_RETURN(rule.source, GetStringOr(json, "source", ""));
  if (rule.efficiency.memory == 0 || rule.efficiency.compute == 0) {
    return absl::InvalidArgumentError("a rule's efficiencies must be above 0");
  }
  return rule;
}

}  // namespace

Json CoefficientsToJson(const Coefficients& c) {
  Json rules = Json::array();
  for (const EfficiencyRule& rule : c.rules) {
    rules.push_back({{"device", rule.device},
                     {"family", rule.family},
                     {"format", rule.format},
                     {"memory", rule.efficiency.memory},
                     {"compute", rule.efficiency.compute},
                     {"source", rule.source}});
  }
  return {{"engine", c.engine},
          {"source", c.source},
          {"gpu_block_seconds", c.gpu_block_seconds},
          {"cpu_block_seconds", c.cpu_block_seconds},
          {"step_seconds", c.step_seconds},
          {"exchange_factor", c.exchange_factor},
          {"exchange_seconds", c.exchange_seconds},
          {"low", c.low},
          {"high", c.high},
          {"bandwidth_bytes_per_s", c.bandwidth_bytes_per_s},
          {"rules", rules}};
}

absl::StatusOr<Coefficients> CoefficientsFromJson(const Json& json) {
  constexpr double kMostSeconds = 10;
  Coefficients c;
  ASSIGN_OR_RETURN(c.engine, GetString(json, "engine"));
  ASSIGN_OR_RETURN(c.source, GetStringOr(json, "source", ""));
  ASSIGN_OR_RETURN(c.gpu_block_seconds, Positive(json, "gpu_block_seconds", kMostSeconds));
  ASSIGN_OR_RETURN(c.cpu_block_seconds, Positive(json, "cpu_block_seconds", kMostSeconds));
  ASSIGN_OR_RETURN(c.step_seconds, Positive(json, "step_seconds", kMostSeconds));
  ASSIGN_OR_RETURN(c.exchange_factor, Positive(json, "exchange_factor", 1000));
  ASSIGN_OR_RETURN(c.exchange_seconds, Positive(json, "exchange_seconds", kMostSeconds));
  ASSIGN_OR_RETURN(c.low, Positive(json, "low", 1000));
  ASSIGN_OR_RETURN(c.high, Positive(json, "high", 1000));
  if (const Json* bandwidths = FindMember(json, "bandwidth_bytes_per_s")) {
    if (!bandwidths->is_object()) {
      return absl::InvalidArgumentError("\"bandwidth_bytes_per_s\": wanted an object");
    }
    for (const auto& item : bandwidths->items()) {
      ASSIGN_OR_RETURN(c.bandwidth_bytes_per_s[item.key()],
                       Positive(*bandwidths, item.key(), 1e15));
    }
  }
  const Json* rules = FindMember(json, "rules");
  if (rules == nullptr || !rules->is_array()) {
    return absl::InvalidArgumentError("\"rules\": wanted a list");
  }
  for (const Json& entry : *rules) {
    absl::StatusOr<EfficiencyRule> rule = RuleFromJson(entry);
    if (!rule.ok()) return Annotate(rule.status(), "rules");
    c.rules.push_back(*std::move(rule));
  }
  return c;
}

}  // namespace tprun
