// A faulty model, plan, prompt or device ends with one message and exit code 2, however many ranks
// there are and however they were started.
#include <filesystem>
#include <ostream>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/broken_models.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

struct Way {
  std::string name;
  int mpirun_ranks;  // 0: tprun starts its ranks
  std::vector<std::string> options;
};

// For the names of failed tests.
void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

const Way kWays[] = {{"one", 0, {}},
                     {"local3", 0, {"--devices=cpu,cpu,cpu", "--backend=local"}},
                     {"mpi3", 0, {"--devices=cpu,cpu,cpu", "--backend=mpi"}},
                     {"mpirun2", 2, {}}};

void ExpectRefused(const Way& way, std::vector<std::string> arguments,
                   const std::string& expected) {
  arguments.insert(arguments.begin(), "run");
  ProcessResult result;
  if (way.mpirun_ranks > 0) {
    result = RunUnderMpirun(way.mpirun_ranks, arguments);
    EXPECT_NE(result.exit_code, 0);
  } else {
    result = RunTprun(arguments);
    EXPECT_EQ(result.exit_code, 2);
    // mpirun by itself adds its own account of a failed job.
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(TprunLines(result.err).size(), 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr(expected));
}

// mpirun takes a second to start and to end: it gets one fault of each file.
bool Skipped(const Way& way, const std::string& fault) {
  static const std::set<std::string> kUnderMpirun = {
      "config_is_cut", "architecture", "absurd_header",    "cut_by_one",
      "shape",         "no_tensor",    "tokenizer_is_cut", "no_such_file"};
  return way.mpirun_ranks > 0 && kUnderMpirun.count(fault) == 0;
}

class CliBadInput : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam().name.rfind("mpi", 0) == 0) TPRUN_NEEDS_MPI();
  }
};

INSTANTIATE_TEST_SUITE_P(Ways, CliBadInput, ::testing::ValuesIn(kWays),
                         [](const auto& info) { return info.param.name; });

TEST_P(CliBadInput, OfABrokenModel) {
  BrokenModels models(SourcePath("models/stories"));
  for (const BrokenModel& broken : models.Make()) {
    if (Skipped(GetParam(), broken.name)) continue;
    SCOPED_TRACE(broken.name);
    std::vector<std::string> arguments = {broken.path, "--max_tokens=2"};
    arguments.insert(arguments.end(), GetParam().options.begin(), GetParam().options.end());
    ExpectRefused(GetParam(), arguments, broken.expected);
  }
}

TEST_P(CliBadInput, OfABrokenGguf) {
  TPRUN_NEEDS_TEST_DATA();
  BrokenModels models(TestDataDirectory() + "/models/tiny/stories260K/gguf/stories260K-f32.gguf");
  for (const BrokenModel& broken : models.MakeGguf()) {
    if (Skipped(GetParam(), broken.name)) continue;
    SCOPED_TRACE(broken.name);
    std::vector<std::string> arguments = {broken.path, "--max_tokens=2"};
    arguments.insert(arguments.end(), GetParam().options.begin(), GetParam().options.end());
    ExpectRefused(GetParam(), arguments, broken.expected);
  }
}

TEST_P(CliBadInput, OfThePrompt) {
  const std::string model = SourcePath("models/stories");
  std::string prompt;
  for (int i = 0; i < 200; ++i) prompt += "Once upon a time ";
  std::vector<std::string> arguments = {model, "--prompt=" + prompt};
  arguments.insert(arguments.end(), GetParam().options.begin(), GetParam().options.end());
  ExpectRefused(GetParam(), arguments, "leaves room for at most 511");
}

TEST_P(CliBadInput, OfTheContext) {
  std::vector<std::string> arguments = {SourcePath("models/stories"), "--context=4096"};
  arguments.insert(arguments.end(), GetParam().options.begin(), GetParam().options.end());
  ExpectRefused(GetParam(), arguments, "--context: wanted 1 to 512");
}

// Devices and plans say themselves how many ranks there are.
class CliBadDevices : public CliBadInput {
 protected:
  std::vector<std::string> With(std::vector<std::string> arguments) {
    for (const std::string& option : GetParam().options) {
      if (option.rfind("--devices", 0) != 0) arguments.push_back(option);
    }
    return arguments;
  }
};

INSTANTIATE_TEST_SUITE_P(Ways, CliBadDevices, ::testing::ValuesIn(kWays),
                         [](const auto& info) { return info.param.name; });

TEST_P(CliBadDevices, AreNamed) {
  for (const std::string devices : {"cpu,cuda:99", "gpu,cpu", "cpu,node7/cpu", "cpu,cpu:3"}) {
    SCOPED_TRACE(devices);
    const std::string missing = devices == "gpu,cpu" ? "gpu" : devices.substr(4);
    ExpectRefused(GetParam(), With({SourcePath("models/stories"), "--devices=" + devices}),
                  "\"" + missing + "\"");
  }
}

TEST_P(CliBadDevices, APlanThatCannotBeRead) {
  const std::string model = SourcePath("models/stories");
  const std::string path = ::testing::TempDir() + "/cli_bad_input_" + GetParam().name + ".json";
  ExpectRefused(GetParam(), With({model, "--plan=/nowhere.json"}), "/nowhere.json");
  ExpectRefused(GetParam(), With({model, "--plan=/"}), "/");
  for (const std::string text : {"", "{}", "[1, 2]", "{\"tprun_plan\": 1", "\xff\xfe"}) {
    ASSERT_TRUE(WriteFile(path, text).ok());
    ExpectRefused(GetParam(), With({model, "--plan=" + path}), path);
  }
  const ProcessResult other = RunTprun({"plan", SourcePath("tests/golden/llama_gqa"),
                                        "--devices=cpu,cpu", "--format=json", "--output=" + path});
  ASSERT_EQ(other.exit_code, 0) << other.err;
  ExpectRefused(GetParam(), With({model, "--plan=" + path}), "another model");
  std::filesystem::remove(path);
}

// Found by one rank only, when the others are already waiting for it.
TEST_P(CliBadDevices, APlanWithADeviceThatOneRankDoesNotHave) {
  const std::string model = SourcePath("models/stories");
  const std::string path = ::testing::TempDir() + "/cli_bad_input_" + GetParam().name + ".json";
  const ProcessResult made = RunTprun({"plan", model, "--devices=cpu,cpu", "--format=json"});
  Json plan = ParseJson(made.out).value_or(Json::object());
  plan["ranks"][1]["device"] = "cuda:99";
  ASSERT_TRUE(WriteFile(path, plan.dump()).ok());
  ExpectRefused(GetParam(), With({model, "--plan=" + path}), "cuda:99");
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tprun
