#include "partition/calibration.h"

#include <cmath>

#include "gmock/gmock.h"

namespace tprun {
namespace {

DeviceRates Card(const std::string& name, const std::string& capability, double gb_per_s) {
  return {DeviceKind::kGpu, name, capability, gb_per_s * 1e9, 1e14};
}

// A pass that reads `bytes` of weights in `format` in 20 blocks.
Observation PassOf(const DeviceRates& device, const WeightFormat& format, double bytes) {
  BlockWork work;
  work.matrices.push_back({&format, bytes / 20, 1});
  Observation observation;
  AddPart(device, work, 20, observation);
  return observation;
}

Coefficients Truth() {
  Coefficients truth;
  truth.rules = {{"", "matmul", "", {0.6, 0.3}, ""}, {"", "matmul", "q4_0", {0.4, 0.3}, ""}};
  truth.gpu_block_seconds = 3e-5;
  truth.step_seconds = 1e-9;
  return truth;
}

std::vector<Observation> Measured(const Coefficients& truth) {
  std::vector<Observation> observations;
  for (double bytes : {1e8, 1e9, 1e10}) {
    for (const WeightFormat* format : {&kBF16Format, &kQ4_0Format}) {
      for (double rate : {400.0, 900.0}) {
        observations.push_back(PassOf(Card("card", "8.6", rate), *format, bytes));
        observations.back().seconds = PredictSeconds(truth, observations.back());
      }
    }
  }
  return observations;
}

TEST(Calibration, FindsTheCoefficientsThatMadeTheTimes) {
  const std::vector<Observation> observations = Measured(Truth());
  Coefficients start;
  start.rules = RulesFor(observations, /*per_architecture=*/false);
  start.gpu_block_seconds = start.step_seconds = 1e-5;
  const Coefficients fit = FitCoefficients(start, observations);
  EXPECT_LT(SummarizeErrors(fit, observations).largest, 0.03);
  for (const EfficiencyRule& rule : fit.rules) {
    if (rule.family != "matmul") continue;
    EXPECT_NEAR(rule.efficiency.memory, rule.format == "q4_0" ? 0.4 : 0.6, 0.02) << rule.format;
  }
  EXPECT_NEAR(fit.low, 1, 0.03);
  EXPECT_NEAR(fit.high, 1, 0.03);
}

TEST(Calibration, LeavesWhatNothingTellsOf) {
  Coefficients start = Truth();
  start.rules.push_back({"sm_90", "matmul", "", {0.123, 0.456}, "kept"});
  start.exchange_seconds = 7e-6;
  const Coefficients fit = FitCoefficients(start, Measured(Truth()));
  EXPECT_EQ(fit.rules.back().efficiency.memory, 0.123);
  EXPECT_EQ(fit.exchange_seconds, 7e-6);
  EXPECT_EQ(FitCoefficients(start, {}).gpu_block_seconds, start.gpu_block_seconds);
}

TEST(Calibration, RulesAreOfWhatOccurs) {
  const std::vector<Observation> observations = {PassOf(Card("a", "8.6", 900), kBF16Format, 1e9),
                                                 PassOf(Card("b", "8.0", 900), kBF16Format, 1e9)};
  EXPECT_EQ(RulesFor(observations, false).size(), 2);     // bf16 and attention
  EXPECT_EQ(RulesFor(observations, true).size(), 3 * 2);  // any, sm_80, sm_86
}

TEST(Calibration, FilesRoundTripAndBadOnesAreNamed) {
  const Coefficients truth = Truth();
  const auto again = CoefficientsFromJson(CoefficientsToJson(truth));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(CoefficientsToJson(*again).dump(), CoefficientsToJson(truth).dump());
  const std::pair<const char*, Json> bad[] = {
      {"engine", 7},         {"gpu_block_seconds", -1},
      {"step_seconds", "1"}, {"low", nullptr},
      {"rules", 5},          {"rules", {{{"memory", 0}, {"compute", 1}}}},
      {"rules", {Json(3)}}};
  for (const auto& [key, value] : bad) {
    Json json = CoefficientsToJson(truth);
    json[key] = value;
    EXPECT_EQ(CoefficientsFromJson(json).status().code(), absl::StatusCode::kInvalidArgument)
        << key << " " << value.dump();
  }
}

}  // namespace
}  // namespace tprun
