#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/json.h"
#include "partition/cost_model.h"

namespace tprun {

// Fitting the cost model's coefficients to measured passes, and judging them by others.

// One measured pass, or several: what was computed where, and how long it took.
struct Observation {
  std::string name;  // for messages: "RTX 3090, Llama 3 8B, Q4_K_M, decode"
  // Blocks that are run one after the other, `count` times each (a fraction where one pass of
  // several is in the time, such as the prefill in the time of a generated token).
  struct Part {
    DeviceRates device;
    BlockWork work;
    double count = 1;
  };
  std::vector<Part> parts;
  std::string kv_type = "f16";
  double passes = 1;                 // with step_seconds each
  double exchanges = 0;              // with exchange_seconds each
  double exchange_wire_seconds = 0;  // of all of them, for their bytes alone
  double seconds = 0;                // measured
};

double PredictSeconds(const Coefficients& coefficients, const Observation& observation);

// Adds a block of work to an observation's parts, or to the count of an equal one.
void AddPart(const DeviceRates& device, const BlockWork& work, double count,
             Observation& observation);

// Predicted speed over measured speed.
double SpeedRatio(const Coefficients& coefficients, const Observation& observation);

// The coefficients with the efficiencies of start.rules and the constants moved to where the mean
// of |log(SpeedRatio)| over the observations is least (pattern search). Efficiencies of rules that
// match no observation keep their values. low and high become the 5th and 95th percentile of
// measured over predicted speed.
Coefficients FitCoefficients(const Coefficients& start, absl::Span<const Observation> observations);

// One rule per weight format that occurs, those of the attention and, with `per_architecture`, the
// same again for every compute capability that occurs: where a fit starts.
std::vector<EfficiencyRule> RulesFor(absl::Span<const Observation> observations,
                                     bool per_architecture);

// How far predictions are off: |SpeedRatio - 1|.
struct ErrorSummary {
  int count = 0;
  double median = 0;
  double p90 = 0;
  double largest = 0;
};
ErrorSummary SummarizeErrors(const Coefficients& coefficients,
                             absl::Span<const Observation> observations);

// A calibration file, out and in. Reading checks every member; InvalidArgument names the wrong one.
Json CoefficientsToJson(const Coefficients& coefficients);
absl::StatusOr<Coefficients> CoefficientsFromJson(const Json& json);

}  // namespace tprun
