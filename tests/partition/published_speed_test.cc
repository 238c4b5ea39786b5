#include "partition/published_speed.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "gmock/gmock.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

std::vector<Observation> Of(const std::vector<const SpeedRow*>& rows) {
  std::vector<Observation> observations;
  for (const SpeedRow* row : rows) observations.push_back(row->observation);
  return observations;
}

void Print(const std::string& what, const ErrorSummary& errors) {
  if (errors.count == 0) return;
  std::printf("%-52s %4d rows, median error %5.1f %%, 90th percentile %5.1f %%\n", what.c_str(),
              errors.count, 100 * errors.median, 100 * errors.p90);
}

// First one rule per format, then the same for every compute capability of the fitted rows.
Coefficients Fit(const std::vector<Observation>& observations) {
  Coefficients start;
  start.gpu_block_seconds = 2e-5;
  start.step_seconds = 1e-4;
  start.exchange_seconds = 2e-5;
  start.rules = RulesFor(observations, /*per_architecture=*/false);
  Coefficients general = FitCoefficients(start, observations);
  std::vector<EfficiencyRule> rules = RulesFor(observations, /*per_architecture=*/true);
  if (rules.size() == 2 * general.rules.size()) return general;  // one compute capability
  for (EfficiencyRule& rule : rules) {
    for (const EfficiencyRule& from : general.rules) {
      if (rule.family == from.family && rule.format == from.format) {
        rule.efficiency = from.efficiency;
      }
    }
  }
  general.rules = rules;
  return FitCoefficients(general, observations);
}

class PublishedSpeed : public testing::Test {
 protected:
  void SetUp() override {
    TPRUN_NEEDS_TEST_DATA();
    const auto catalogue = GpuCatalogue::Read(SourcePath("clusters/gpus.yaml"));
    ASSERT_TRUE(catalogue.ok()) << catalogue.status();
    auto rows = ReadPublishedSpeed(TestDataDirectory() + "/measured/speed.json", *catalogue);
    ASSERT_TRUE(rows.ok()) << rows.status();
    rows_ = *std::move(rows);
  }

  std::map<std::string, std::vector<const SpeedRow*>> ByEngine(bool prefill) const {
    std::map<std::string, std::vector<const SpeedRow*>> engines;
    for (const SpeedRow& row : rows_) {
      // llama.cpp overlaps chunks over GPUs where memory allows: the rows do not tell when.
      if (row.prefill && row.layer_split) continue;
      if (row.prefill == prefill) engines[row.engine].push_back(&row);
    }
    return engines;
  }

  // Errors of the types that were not fitted to, and of all rows that were not.
  std::pair<ErrorSummary, ErrorSummary> Judge(bool prefill, int least_rows) {
    std::vector<double> other, all;
    const auto collect = [](const Coefficients& fit, const std::vector<Observation>& from,
                            std::vector<double>& errors) {
      for (const Observation& o : from) errors.push_back(std::abs(SpeedRatio(fit, o) - 1));
    };
    for (const auto& [engine, rows] : ByEngine(prefill)) {
      if (static_cast<int>(rows.size()) < least_rows) continue;
      const SpeedSplit split = SplitRows(rows);
      const Coefficients fit = Fit(Of(split.fitted));
      const std::string what = engine + (prefill ? " prefill" : " decode");
      Print(what + ", fitted", SummarizeErrors(fit, Of(split.fitted)));
      Print(what + ", other rows of these types", SummarizeErrors(fit, Of(split.same_types)));
      Print(what + ", other types", SummarizeErrors(fit, Of(split.other_types)));
      if (std::getenv("TPRUN_PRINT_ROWS") != nullptr) PrintRows(fit, split);
      collect(fit, Of(split.other_types), other);
      collect(fit, Of(split.other_types), all);
      collect(fit, Of(split.same_types), all);
    }
    return {Summary(other), Summary(all)};
  }

  static ErrorSummary Summary(std::vector<double> errors) {
    std::sort(errors.begin(), errors.end());
    if (errors.empty()) return {};
    return {static_cast<int>(errors.size()), errors[errors.size() / 2],
            errors[errors.size() * 9 / 10], errors.back()};
  }

  static void PrintRows(const Coefficients& fit, const SpeedSplit& split) {
    for (const auto* list : {&split.same_types, &split.other_types}) {
      for (const SpeedRow* row : *list) {
        std::printf("  %+5.1f %% %s\n", 100 * (SpeedRatio(fit, row->observation) - 1),
                    row->observation.name.c_str());
      }
    }
  }

  std::vector<SpeedRow> rows_;
};

TEST_F(PublishedSpeed, DecodeOfTypesNotFittedToIsWithinTenPercent) {
  const auto [other, all] = Judge(/*prefill=*/false, 9);
  Print("all engines, decode, types not fitted to", other);
  Print("all engines, decode, rows not fitted to", all);
  EXPECT_GT(other.count, 50);
  EXPECT_LE(other.median, 0.10);
  EXPECT_GT(all.count, 300);
  EXPECT_LE(all.median, 0.10);
}

TEST_F(PublishedSpeed, PrefillOfTypesNotFittedToIsWithinFifteenPercent) {
  const auto [other, all] = Judge(/*prefill=*/true, 9);
  Print("all engines, prefill, types not fitted to", other);
  Print("all engines, prefill, rows not fitted to", all);
  EXPECT_GT(other.count, 30);
  EXPECT_LE(other.median, 0.15);
}

}  // namespace
}  // namespace tprun
