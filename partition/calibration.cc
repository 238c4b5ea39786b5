#include "partition/calibration.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tprun {
namespace {

constexpr double kLeastEfficiency = 0.005;
constexpr double kMostMemoryEfficiency = 1.0;
constexpr double kMostComputeEfficiency = 1.5;  // the nominal rate may be an estimate
constexpr double kLeastSeconds = 1e-9;

bool SameWork(const BlockWork& a, const BlockWork& b) {
  if (a.matrices.size() != b.matrices.size() || a.kv_bytes != b.kv_bytes ||
      a.attention_ops != b.attention_ops || a.steps != b.steps) {
    return false;
  }
  for (size_t i = 0; i < a.matrices.size(); ++i) {
    if (a.matrices[i].format != b.matrices[i].format ||
        a.matrices[i].bytes != b.matrices[i].bytes || a.matrices[i].ops != b.matrices[i].ops) {
      return false;
    }
  }
  return true;
}

// A coefficient that the search moves, within [least, most].
struct Knob {
  double* value;
  double least;
  double most;
  double step = 0.3;  // factor of the next move, less 1
};

double Loss(const Coefficients& coefficients, absl::Span<const Observation> observations) {
  double sum = 0;
  for (const Observation& observation : observations) {
    sum += std::fabs(std::log(SpeedRatio(coefficients, observation)));
  }
  return sum / static_cast<double>(std::max<size_t>(1, observations.size()));
}

class PatternSearch {
 public:
  PatternSearch(Coefficients& coefficients, absl::Span<const Observation> observations)
      : coefficients_(coefficients),
        observations_(observations),
        best_(Loss(coefficients, observations)) {
    for (EfficiencyRule& rule : coefficients.rules) {
      AddIfUsed({&rule.efficiency.memory, kLeastEfficiency, kMostMemoryEfficiency});
      AddIfUsed({&rule.efficiency.compute, kLeastEfficiency, kMostComputeEfficiency});
    }
    for (double* seconds : {&coefficients.gpu_block_seconds, &coefficients.cpu_block_seconds,
                            &coefficients.step_seconds, &coefficients.exchange_seconds}) {
      *seconds = std::max(*seconds, kLeastSeconds);
      AddIfUsed({seconds, kLeastSeconds, 1.0});
    }
  }

  void Run() {
    constexpr int kRounds = 60;
    constexpr double kLeastGain = 1e-4;  // over five rounds
    double before = best_;
    for (int round = 1; round <= kRounds; ++round) {
      for (Knob& knob : knobs_) Move(knob);
      if (round % 5 != 0) continue;
      if (before - best_ < kLeastGain) return;
      before = best_;
    }
  }

 private:
  // A coefficient that changes nothing, however far it is moved, is left as it is.
  void AddIfUsed(const Knob& knob) {
    const double value = *knob.value;
    bool used = false;
    for (const double end : {knob.least, knob.most}) {
      *knob.value = end;
      used = used || Loss(coefficients_, observations_) != best_;
    }
    *knob.value = value;
    if (used) knobs_.push_back(knob);
  }

  void Move(Knob& knob) {
    const double before = *knob.value;
    for (const double factor : {1 + knob.step, 1 / (1 + knob.step)}) {
      *knob.value = std::clamp(before * factor, knob.least, knob.most);
      const double loss = Loss(coefficients_, observations_);
      if (loss < best_) {
        best_ = loss;
        knob.step = std::min(1.0, knob.step * 1.3);
        return;
      }
    }
    *knob.value = before;
    knob.step = std::max(0.002, knob.step * 0.6);
  }

  Coefficients& coefficients_;
  const absl::Span<const Observation> observations_;
  double best_;
  std::vector<Knob> knobs_;
};

std::string ArchitectureOf(const DeviceRates& device) {
  if (device.kind == DeviceKind::kCpu) return "cpu";
  return absl::StrCat("sm_", absl::StrReplaceAll(device.compute_capability, {{".", ""}}));
}

double Quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(std::lround(part * last))];
}

}  // namespace

void AddPart(const DeviceRates& device, const BlockWork& work, double count,
             Observation& observation) {
  for (Observation::Part& part : observation.parts) {
    if (part.device.name != device.name || !SameWork(part.work, work)) continue;
    part.count += count;
    return;
  }
  observation.parts.push_back({device, work, count});
}

double PredictSeconds(const Coefficients& coefficients, const Observation& observation) {
  double seconds = observation.passes * coefficients.step_seconds +
                   observation.exchanges * coefficients.exchange_seconds +
                   observation.exchange_wire_seconds * coefficients.exchange_factor;
  for (const Observation::Part& part : observation.parts) {
    seconds += part.count * BlockSeconds(coefficients, part.device, part.work, observation.kv_type);
  }
  return seconds;
}

double SpeedRatio(const Coefficients& coefficients, const Observation& observation) {
  return observation.seconds / std::max(kLeastSeconds, PredictSeconds(coefficients, observation));
}

std::vector<EfficiencyRule> RulesFor(absl::Span<const Observation> observations,
                                     bool per_architecture) {
  std::set<std::string> devices = {""};
  std::set<std::string> formats;
  for (const Observation& observation : observations) {
    for (const Observation::Part& part : observation.parts) {
      if (per_architecture) devices.insert(ArchitectureOf(part.device));
      for (const MatrixWork& matrix : part.work.matrices) {
        formats.insert(std::string(matrix.format->name));
      }
    }
  }
  constexpr Efficiency kStart = {0.7, 0.3};
  std::vector<EfficiencyRule> rules;
  for (const std::string& device : devices) {
    for (const std::string& format : formats)
      rules.push_back({device, "matmul", format, kStart, ""});
    rules.push_back({device, "attention", "", kStart, ""});
  }
  return rules;
}

Coefficients FitCoefficients(const Coefficients& start,
                             absl::Span<const Observation> observations) {
  Coefficients result = start;
  if (observations.empty()) return result;
  PatternSearch(result, observations).Run();
  std::vector<double> measured_over_predicted;
  for (const Observation& observation : observations) {
    measured_over_predicted.push_back(1 / SpeedRatio(result, observation));
  }
  result.low = Quantile(measured_over_predicted, 0.05);
  result.high = Quantile(measured_over_predicted, 0.95);
  return result;
}

ErrorSummary SummarizeErrors(const Coefficients& coefficients,
                             absl::Span<const Observation> observations) {
  std::vector<double> errors;
  for (const Observation& observation : observations) {
    errors.push_back(std::fabs(SpeedRatio(coefficients, observation) - 1));
  }
  ErrorSummary summary;
  summary.count = static_cast<int>(errors.size());
  summary.median = Quantile(errors, 0.5);
  summary.p90 = Quantile(errors, 0.9);
  summary.largest = Quantile(errors, 1);
  return summary;
}

}  // namespace tprun
