// plan.json files that a user edits, carried out.
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

class CliRunPlan : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = ::testing::TempDir() + "/cli_run_plan_" + test->name() + ".json";
    const ProcessResult result =
        RunTprun({"plan", model_, "--devices=cpu,cpu,cpu", "--kv_type=f32", "--format=json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    plan_ = ParseJson(result.out).value_or(Json::object());
    expected_ = Text({"--kv_type=f32"}).out;
  }
  void TearDown() override { std::filesystem::remove(path_); }

  ProcessResult Text(std::vector<std::string> more) {
    std::vector<std::string> arguments = {"run",     model_,        "--prompt=Once upon a time",
                                          "--quiet", "--threads=1", "--max_tokens=24"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTprun(arguments);
  }

  // Writes the edited plan and runs it.
  ProcessResult RunEdited(const std::function<void(Json&)>& edit,
                          const std::string& backend = "--backend=local") {
    Json plan = plan_;
    edit(plan);
    EXPECT_TRUE(WriteFile(path_, plan.dump()).ok());
    return Text({"--plan=" + path_, backend});
  }

  // Every block that `name` is part of goes to `ranks` with `shares`.
  static void Place(Json& plan, const std::string& name, Json ranks, Json shares) {
    for (Json& block : plan["blocks"]) {
      if (block["block"].get<std::string>().find(name) == std::string::npos) continue;
      block["ranks"] = ranks;
      block["shares"] = shares;
    }
  }

  int64_t Units(const std::string& name) const {
    int64_t units = 0;
    for (const Json& block : plan_["blocks"]) {
      if (block["block"] != name) continue;
      for (const Json& share : block["shares"]) units += share.get<int64_t>();
    }
    return units;
  }

  std::string model_ = SourcePath("models/stories");
  std::string path_;
  std::string expected_;
  Json plan_;
};

TEST_F(CliRunPlan, AsItIs) {
  const ProcessResult result = RunEdited([](Json&) {});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, expected_);
}

TEST_F(CliRunPlan, AttentionAndMlpOnDifferentRanks) {
  const auto edit = [&](Json& plan) {
    Place(plan, "attention", {0, 1}, {1, Units("layer 0 attention") - 1});
    Place(plan, "mlp", {2}, {Units("layer 0 mlp")});
    Place(plan, "embed", {1}, {Units("embed")});
    Place(plan, "head", {2, 0}, {Units("head") - 3, 3});
  };
  ProcessResult result = RunEdited(edit);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, expected_);
  if (!HaveMpirun()) return;
  result = RunEdited(edit, "--backend=mpi");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, expected_);
}

// Open MPI's own mpirun starts the ranks that a hostfile or a rankfile of the plan names.
TEST_F(CliRunPlan, StartedWithItsHostfileAndRankfile) {
  if (!HaveOpenMpi()) GTEST_SKIP() << "tprun was not built with Open MPI, whose files these are";
  ASSERT_TRUE(WriteFile(path_, plan_.dump()).ok());
  for (const std::string format : {"hostfile", "rankfile"}) {
    const std::string hosts = path_ + "." + format;
    const ProcessResult exported = RunTprun(
        {"plan", model_, "--devices=cpu,cpu,cpu", "--format=" + format, "--output=" + hosts});
    ASSERT_EQ(exported.exit_code, 0) << exported.err;
    const ProcessResult result =
        RunUnderMpirun(3,
                       {"run", model_, "--plan=" + path_, "--prompt=Once upon a time", "--quiet",
                        "--threads=1", "--max_tokens=24"},
                       {"--" + format, hosts});
    EXPECT_EQ(result.exit_code, 0) << format << ": " << result.err;
    EXPECT_EQ(result.out, expected_) << format;
    std::filesystem::remove(hosts);
  }
}

TEST_F(CliRunPlan, TensorSplitFirstLayersPipelineAfter) {
  const ProcessResult result = RunEdited([&](Json& plan) {
    for (const std::string layer : {"layer 3", "layer 4", "layer 5"}) {
      const int rank = layer == "layer 4" ? 1 : 2;
      Place(plan, layer + " attention", {rank}, {Units("layer 0 attention")});
      Place(plan, layer + " mlp", {rank}, {Units("layer 0 mlp")});
    }
  });
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, expected_);
}

TEST_F(CliRunPlan, IdleRank) {
  const ProcessResult result = RunEdited([&](Json& plan) {
    for (const Json& block : Json(plan["blocks"])) {
      const std::string name = block["block"];
      Place(plan, name, {0, 2}, {Units(name) - 1, 1});
    }
  });
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, expected_);
}

// Each edit makes a plan that nobody can carry out; what the message has to name.
TEST_F(CliRunPlan, UnsoundPlansEndWithExitCode2) {
  const std::pair<std::string, std::function<void(Json&)>> cases[] = {
      {"shares",
       [](Json& plan) {
         Place(plan, "layer 1 mlp", {0, 1, 2}, {1, 1, 1});
       }},
      {"shares",
       [](Json& plan) {
         Place(plan, "layer 1 mlp", {0, 1, 2}, {1, 1});
       }},
      {"layer 2 attention",
       [](Json& plan) {
         Place(plan, "layer 2 attention", {0, 9}, {2, 2});
       }},
      {"layer 2 attention",
       [](Json& plan) {
         Place(plan, "layer 2 attention", {0, 0}, {2, 2});
       }},
      {"layer 2 attention",
       [](Json& plan) {
         Place(plan, "layer 2 attention", {0, 1}, {5, -1});
       }},
      {"embed", [](Json& plan) { Place(plan, "embed", Json::array(), Json::array()); }},
      {"blocks", [](Json& plan) { plan["blocks"].erase(3); }},
      {"fingerprint", [](Json& plan) { plan.erase("fingerprint"); }},
      {"another model", [](Json& plan) { plan["fingerprint"] = "0123456789abcdef"; }},
      {"context", [](Json& plan) { plan["context"] = int64_t{1} << 60; }},
      {"context", [](Json& plan) { plan["context"] = "512"; }},
      {"batch", [](Json& plan) { plan["batch"] = -1; }},
      {"kv_type", [](Json& plan) { plan["kv_type"] = "q9"; }},
      {"surprise", [](Json& plan) { plan["surprise"] = 1; }},
      {"cuda:7", [](Json& plan) { plan["ranks"][1]["device"] = "cuda:7"; }},
      {"ranks", [](Json& plan) { plan["ranks"] = Json::array(); }},
      {"tprun_plan", [](Json& plan) { plan["tprun_plan"] = 99; }},
  };
  int i = 0;
  for (const auto& [expected, edit] : cases) {
    const ProcessResult result = RunEdited(edit);
    SCOPED_TRACE(i++);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(TprunLines(result.err).size(), 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr(expected));
  }
}

TEST_F(CliRunPlan, OptionsThatThePlanAlreadyDecidesAreRefused) {
  ASSERT_TRUE(WriteFile(path_, plan_.dump()).ok());
  // Default values among them.
  for (const std::string option :
       {"--context=64", "--devices=cpu", "--topology=x.yaml", "--shares=1:2", "--batch=1",
        "--split=tensor", "--kv_type=f16", "--objective=latency", "--prefill_chunk=512"}) {
    const ProcessResult result = Text({"--plan=" + path_, option});
    EXPECT_EQ(result.exit_code, 2) << option;
    EXPECT_THAT(result.err, HasSubstr(option.substr(0, option.find('='))));
  }
}

TEST_F(CliRunPlan, ABatchIsRefused) {
  const ProcessResult result = RunEdited([](Json& plan) { plan["batch"] = 2; });
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("--batch is for plan"));
}

TEST_F(CliRunPlan, NeedsAsManyRanksAsThePlanHas) {
  TPRUN_NEEDS_MPI();
  ASSERT_TRUE(WriteFile(path_, plan_.dump()).ok());
  const ProcessResult result =
      RunUnderMpirun(2, {"run", model_, "--plan=" + path_, "--quiet", "--max_tokens=4"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_EQ(result.out, "");
  ASSERT_EQ(TprunLines(result.err).size(), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the plan is for 3 ranks, but 2 were started"));
}

}  // namespace
}  // namespace tprun
