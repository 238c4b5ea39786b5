// The bench: what it reports of one and of several sequences.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ProcessResult Bench(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"bench",        SourcePath("models/stories"),
                                        "--context=64", "--prompt_tokens=8",
                                        "--tokens=4",   "--repeats=2",
                                        "--threads=1",  "--backend=local"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTprun(arguments);
}

Json Figures(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"--format=json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const ProcessResult result = Bench(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out, nullptr, /*allow_exceptions=*/false);
}

TEST(CliBench, CountsTheTokensOfAllSequences) {
  const Json one = Figures({"--devices=cpu"});
  const Json three = Figures({"--devices=cpu,cpu", "--batch=3"});
  ASSERT_TRUE(one.is_object() && three.is_object());
  EXPECT_EQ(one["batch"], 1);
  EXPECT_EQ(three["batch"], 3);
  for (const Json* figures : {&one, &three}) {
    const double batch = (*figures)["batch"].get<int>();
    const double seconds = (*figures)["decode_step_seconds"].get<double>();
    ASSERT_GT(seconds, 0);
    EXPECT_NEAR((*figures)["decode_tokens_per_s"].get<double>() * seconds, batch, 1e-6);
    EXPECT_GT((*figures)["prefill_tokens_per_s"].get<double>(), 0);
    const double before = (*figures)["memory_bandwidth_before_decode_bytes_per_s"].get<double>();
    const double after = (*figures)["memory_bandwidth_after_decode_bytes_per_s"].get<double>();
    EXPECT_GT(std::min(before, after), 1e8);
    EXPECT_NEAR((*figures)["memory_bandwidth_bytes_per_s"].get<double>(), (before + after) / 2, 1);
  }
  // A step reads the weights once, and the keys and values of every sequence.
  EXPECT_EQ(three["kv_bytes_per_step"].get<int64_t>(), 3 * one["kv_bytes_per_step"].get<int64_t>());
  EXPECT_GE(three["weight_bytes_per_step"].get<int64_t>(),
            one["weight_bytes_per_step"].get<int64_t>());
  EXPECT_LT(three["weight_bytes_per_step"].get<int64_t>(),
            2 * one["weight_bytes_per_step"].get<int64_t>());
}

TEST(CliBench, TextSaysWhatWasMeasured) {
  const ProcessResult one = Bench({"--devices=cpu"});
  EXPECT_THAT(one.out, HasSubstr("read per token"));
  EXPECT_THAT(one.out, testing::Not(HasSubstr("sequences")));
  const ProcessResult three = Bench({"--devices=cpu,cpu", "--batch=3"});
  EXPECT_THAT(three.out, HasSubstr("3 sequences at once"));
  EXPECT_THAT(three.out, HasSubstr("all-reduce"));
}

TEST(CliBench, ThePromptFitsTheContextUnlessSomeoneSaysHowLong) {
  std::vector<std::string> arguments = {"bench",          SourcePath("models/stories"),
                                        "--context=24",   "--tokens=4",
                                        "--repeats=1",    "--threads=1",
                                        "--devices=cpu",  "--format=json",
                                        "--backend=local"};
  const ProcessResult fits = RunTprun(arguments);
  ASSERT_EQ(fits.exit_code, 0) << fits.err;
  EXPECT_EQ(Json::parse(fits.out)["prompt_tokens"], 20);
  arguments.push_back("--prompt_tokens=21");
  const ProcessResult refused = RunTprun(arguments);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("need a context of 25, but it is 24"));
  arguments.pop_back();
  arguments[3] = "--tokens=24";
  EXPECT_THAT(RunTprun(arguments).err, HasSubstr("need a context of 25, but it is 24"));
}

TEST(CliBench, ProfilesTheOps) {
  const ProcessResult text = Bench({"--devices=cpu", "--profile"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("a decode step"));
  EXPECT_THAT(text.out, HasSubstr("attention"));
  EXPECT_THAT(text.out, Not(HasSubstr("all-reduce")));
  const Json one = Figures({"--devices=cpu,cpu", "--profile"});
  ASSERT_TRUE(one.is_object());
  EXPECT_GT(one["loaded_bytes"].get<int64_t>(), 0);
  EXPECT_GT(one["first_token_seconds"].get<double>(), one["load_seconds"].get<double>() / 2);
  const Json& profile = one["profile_of_rank_0"];
  EXPECT_GT(profile["peak_f32_per_s"].get<double>(), 1e8);
  EXPECT_GT(profile["peak_int8_per_s"].get<double>(), profile["peak_f32_per_s"].get<double>() / 4);
  double sum = 0;
  bool summed = false;
  for (const Json& op : profile["decode"]) {
    EXPECT_GT(op["calls"].get<double>(), 0);
    sum += op["seconds"].get<double>();
    if (op["op"] != "all-reduce") continue;
    summed = true;
    EXPECT_LE(op["p50_seconds"].get<double>(), op["p99_seconds"].get<double>());
  }
  EXPECT_TRUE(summed);
  EXPECT_GT(sum, 0);
}

// Efficiencies of this machine, which plans then rest on.
TEST(CliBench, CalibratesTheMachine) {
  const std::string path = ::testing::TempDir() + "/cli_bench_calibration.json";
  ProcessOptions patient;
  patient.timeout_s = 240;
  const ProcessResult result = RunTprun({"bench", "--calibrate", "--output=" + path}, patient);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("q4_0"));
  EXPECT_THAT(result.out, HasSubstr("written to " + path));
  const auto text = ReadFile(path);
  ASSERT_TRUE(text.ok()) << text.status();
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object());
  ASSERT_EQ(json["bandwidth_bytes_per_s"].size(), 1);
  const std::string device = json["bandwidth_bytes_per_s"].begin().key();
  int rules = 0;
  for (const Json& rule : json["rules"]) rules += rule["device"] == device;
  EXPECT_GT(rules, 10);
  // A block starts and joins all threads several times, which takes some microseconds.
  EXPECT_GT(json["cpu_block_seconds"].get<double>(), 5e-7);
  EXPECT_LT(json["cpu_block_seconds"].get<double>(), 5e-3);
  const std::vector<std::string> plan = {"plan", SourcePath("models/stories"), "--devices=cpu",
                                         "--explain"};
  std::vector<std::string> calibrated = plan;
  calibrated.push_back("--calibration=" + path);
  EXPECT_THAT(RunTprun(plan).out, HasSubstr("not on a measurement"));
  const ProcessResult planned = RunTprun(calibrated);
  EXPECT_EQ(planned.exit_code, 0) << planned.err;
  EXPECT_THAT(planned.out, HasSubstr("tprun bench --calibrate"));
  EXPECT_THAT(planned.out, Not(HasSubstr("not on a measurement")));
}

// What was measured is kept beside what was predicted, and the next plan tells.
TEST(CliBench, RunsAreComparedWithTheirPlans) {
  const std::string state = ::testing::TempDir() + "/cli_bench_state";
  std::filesystem::remove_all(state);
  ProcessOptions options;
  options.environment = {{"XDG_STATE_HOME", state}};
  const std::vector<std::string> plan = {"plan", SourcePath("models/stories"), "--devices=cpu"};
  constexpr char kSoFar[] = "runs of this model on these devices so far: ";
  EXPECT_THAT(RunTprun(plan, options).out, Not(HasSubstr(kSoFar)));
  const auto bench = [&](const std::string& option) {
    const ProcessResult result =
        RunTprun({"bench", SourcePath("models/stories"), "--devices=cpu", "--context=64",
                  "--prompt_tokens=8", "--tokens=4", "--repeats=2", option},
                 options);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  };
  // Fewer threads, or ops timed one by one, are not what was predicted: the memory alone is.
  bench("--threads=1");
  bench("--profile");
  EXPECT_THAT(RunTprun(plan, options).out, HasSubstr(absl::StrCat(kSoFar, "memory")));
  bench("--batch=1");
  EXPECT_THAT(RunTprun(plan, options).out, HasSubstr(absl::StrCat(kSoFar, "decode")));
  std::filesystem::remove_all(state);
}

}  // namespace
}  // namespace tprun
