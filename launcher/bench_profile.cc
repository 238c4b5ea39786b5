#include "launcher/bench_profile.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/units.h"

namespace tprun {
namespace {

using NamedOp = std::pair<std::string, OpProfile::Op>;

std::vector<NamedOp> LongestFirst(const OpProfile::Ops& ops) {
  std::vector<NamedOp> sorted(ops.begin(), ops.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const NamedOp& a, const NamedOp& b) { return a.second.seconds > b.second.seconds; });
  return sorted;
}

double Quantile(std::vector<float> samples, double quantile) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<size_t>(quantile * static_cast<double>(samples.size() - 1) + 0.5)];
}

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

// The part that an op reaches of the ceiling of its arithmetic.
double FractionOfPeak(const OpProfile::Op& op, const cpu::CpuPeaks& peaks) {
  return Ratio(Ratio(op.operations, op.seconds), cpu::PeakOf(peaks, op.arithmetic));
}

// Of one prefill or step.
std::string Table(const OpProfile::Ops& ops, int64_t repeats, const BenchProfile& profile) {
  double all = 0;
  for (const auto& [name, op] : ops) all += op.seconds;
  std::string text = absl::StrFormat("    %-22s %7s %11s %6s %9s %6s %9s %6s\n", "op", "calls",
                                     "time", "share", "GB/s", "%", "Gop/s", "%");
  for (const auto& [name, op] : LongestFirst(ops)) {
    absl::StrAppendFormat(&text, "    %-22s %7.1f %11s %5.1f%% %9.2f %5.0f%% %9.1f %5.0f%%\n", name,
                          Ratio(static_cast<double>(op.calls), static_cast<double>(repeats)),
                          FormatDuration(Ratio(op.seconds, static_cast<double>(repeats))),
                          100 * Ratio(op.seconds, all), 1e-9 * Ratio(op.bytes, op.seconds),
                          100 * Ratio(Ratio(op.bytes, op.seconds), profile.bandwidth),
                          1e-9 * Ratio(op.operations, op.seconds),
                          100 * FractionOfPeak(op, profile.peaks));
    if (op.samples.empty()) continue;
    absl::StrAppend(&text, "      p50 ", FormatDuration(Quantile(op.samples, 0.5)), ", p99 ",
                    FormatDuration(Quantile(op.samples, 0.99)), "\n");
  }
  return text;
}

Json TableJson(const OpProfile::Ops& ops, int64_t repeats, const BenchProfile& profile) {
  Json rows = Json::array();
  for (const auto& [name, op] : LongestFirst(ops)) {
    Json row = {{"op", name},
                {"calls", Ratio(static_cast<double>(op.calls), static_cast<double>(repeats))},
                {"seconds", Ratio(op.seconds, static_cast<double>(repeats))},
                {"bytes_per_s", Ratio(op.bytes, op.seconds)},
                {"operations_per_s", Ratio(op.operations, op.seconds)},
                {"fraction_of_bandwidth", Ratio(Ratio(op.bytes, op.seconds), profile.bandwidth)},
                {"fraction_of_peak", FractionOfPeak(op, profile.peaks)}};
    if (!op.samples.empty()) {
      row["p50_seconds"] = Quantile(op.samples, 0.5);
      row["p99_seconds"] = Quantile(op.samples, 0.99);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::string ProfileText(const BenchProfile& profile) {
  std::string text =
      absl::StrCat("  rank 0 by itself: ", FormatBandwidth(profile.bandwidth), " read, peaks ",
                   absl::StrFormat("%.0f GFLOP/s f32, %.0f Gop/s int8", 1e-9 * profile.peaks.f32,
                                   1e-9 * profile.peaks.int8));
  if (profile.peaks.bf16 > 0) {
    absl::StrAppendFormat(&text, ", %.0f GFLOP/s bf16", 1e-9 * profile.peaks.bf16);
  }
  absl::StrAppend(&text, "\n  a prefill\n", Table(profile.prefill, profile.prefills, profile),
                  "  a decode step\n", Table(profile.decode, profile.steps, profile));
  return text;
}

Json ProfileJson(const BenchProfile& profile) {
  return {{"bandwidth_bytes_per_s", profile.bandwidth},
          {"peak_f32_per_s", profile.peaks.f32},
          {"peak_bf16_per_s", profile.peaks.bf16},
          {"peak_int8_per_s", profile.peaks.int8},
          {"prefill", TableJson(profile.prefill, profile.prefills, profile)},
          {"decode", TableJson(profile.decode, profile.steps, profile)}};
}

}  // namespace tprun
