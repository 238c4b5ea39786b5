#include "launcher/user_state.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "gmock/gmock.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

class UserState : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "/user_state_test";
    std::filesystem::remove_all(directory_);
    setenv("XDG_STATE_HOME", directory_.c_str(), 1);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static Plan PlanOn(const std::vector<std::string>& names) {
    Plan plan;
    for (const std::string& name : names) {
      plan.ranks.emplace_back();
      plan.ranks.back().device_name = name;
    }
    return plan;
  }

  std::string directory_;
};

TEST_F(UserState, ResidualsAreKeptAndTellHowPlansWere) {
  EXPECT_TRUE(ReadResiduals().empty());
  for (double measured : {80.0, 90.0, 120.0}) {
    Residual residual;
    residual.command = "run";
    residual.model = "m";
    residual.fingerprint = "f";
    residual.devices = {"card b", "card a"};
    residual.predicted_decode = 100;
    residual.measured_decode = measured;
    residual.predicted_bytes = 1000;
    residual.measured_bytes = 990;
    ASSERT_TRUE(AppendResidual(residual).ok());
  }
  const std::vector<Residual> residuals = ReadResiduals();
  ASSERT_EQ(residuals.size(), 3);
  EXPECT_EQ(residuals[1].measured_decode, 90);
  EXPECT_EQ(residuals[1].devices, (std::vector<std::string>{"card b", "card a"}));
  Plan plan = PlanOn({"card a", "card b"});
  plan.fingerprint = "f";
  EXPECT_EQ(HowPlansWere(residuals, plan),
            "runs of this model on these devices so far: decode measured at 0.90 of what was "
            "predicted (median "
            "of 3 runs, 0.80 to 1.20); memory measured at 0.99 of what was predicted (median of 3 "
            "runs, 0.99 to 0.99)");
  EXPECT_EQ(HowPlansWere(residuals, PlanOn({"card a"})), "");
}

TEST_F(UserState, OtherModelsSpeakOnlyIfTheyAreAboutAsFast) {
  const auto run = [](const std::string& fingerprint, double predicted, double measured) {
    return Residual{"run", "m", fingerprint, {"card"}, predicted, measured};
  };
  Plan plan = PlanOn({"card"});
  plan.fingerprint = "own";
  plan.decode.expected = 100;
  const std::vector<Residual> others = {run("fast", 500, 5000), run("slow", 20, 2),
                                        run("like", 300, 150)};
  EXPECT_EQ(HowPlansWere(others, plan),
            "runs of other models about as fast, on these devices so far: decode measured at 0.50 "
            "of what was predicted (1 run)");
  std::vector<Residual> own = others;
  for (double measured : {90.0, 95.0, 100.0, 105.0, 9000.0}) {
    own.push_back(run("own", 100, measured));
  }
  EXPECT_EQ(HowPlansWere(own, plan),
            "runs of this model on these devices so far: decode measured at 1.00 of what was "
            "predicted (median of 5 runs, half of them 0.95 to 1.05)");
  EXPECT_EQ(HowPlansWere({run("fast", 500, 5000)}, plan), "");
}

TEST_F(UserState, LinesOfBeforeModelsHadFingerprintsAreNotCounted) {
  ASSERT_TRUE(AppendResidual({"run", "m", "f", {"d"}, 1, 1}).ok());
  const std::string path = directory_ + "/tprun/residuals.jsonl";
  std::string text = *ReadFile(path);
  const size_t at = text.find("\"fingerprint\":\"f\",");
  ASSERT_NE(at, std::string::npos);
  ASSERT_TRUE(WriteFile(path, text.erase(at, 18)).ok());
  EXPECT_TRUE(ReadResiduals().empty());
}

TEST_F(UserState, LinesThatCannotBeReadArePassedOver) {
  ASSERT_TRUE(AppendResidual({"run", "m", "f", {"d"}, 1, 1}).ok());
  const std::string path = directory_ + "/tprun/residuals.jsonl";
  const std::string good = *ReadFile(path);
  ASSERT_TRUE(WriteFile(path, "nonsense\n{}\n[1]\n" + good + "{\"devices\": 3}\n").ok());
  EXPECT_EQ(ReadResiduals().size(), 1);
}

TEST_F(UserState, TheFileDoesNotGrowForEver) {
  Residual residual;
  residual.devices = {std::string(60'000, 'x')};
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(AppendResidual(residual).ok());
  EXPECT_LT(std::filesystem::file_size(directory_ + "/tprun/residuals.jsonl"), 1'200'000);
  EXPECT_GT(ReadResiduals().size(), 5);
}

// Runs that end together, each a process of its own.
TEST_F(UserState, NoLineIsLostWhenManyAreKeptAtOnce) {
  constexpr int kProcesses = 8, kLines = 25;
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      bool kept = true;
      for (int j = 0; j < kLines; ++j) {
        kept = AppendResidual({"run", std::string(4800, 'm'), "f", {"d"}, 1, 1}).ok() && kept;
      }
      _exit(kept ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(ReadResiduals().size(), kProcesses * kLines);
}

TEST_F(UserState, CalibrationIsFoundWhereItWasWritten) {
  EXPECT_EQ(DefaultCalibrationFile(), "");
  const auto path = WriteStateFile("calibration.json", "{}");
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(DefaultCalibrationFile(), *path);
}

}  // namespace
}  // namespace tprun
