#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The program with a made-up NVIDIA driver.
ProcessResult WithFakeDriver(const std::string& machine, std::vector<std::string> arguments) {
  return RunTprun(arguments, {.environment = {{"TPRUN_NVML_LIBRARY", FAKE_NVML},
                                              {"FAKE_NVML_MACHINE", machine}}});
}

std::string Severity(const Json& findings, const std::string& check) {
  std::string worst;
  for (const Json& finding : findings["findings"]) {
    if (finding["check"] != check) continue;
    const std::string severity = finding["severity"];
    if (worst.empty() || severity == "problem" || worst == "ok") worst = severity;
  }
  return worst;
}

TEST(CliDoctor, ThisMachine) {
  const ProcessResult result = RunTprun({"doctor"});
  EXPECT_THAT(result.exit_code, testing::AnyOf(0, 1)) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("driver"), HasSubstr("mpi"), HasSubstr("shm"),
                                HasSubstr("nofile"), HasSubstr(" ok\n")));
  EXPECT_EQ(result.out.find('\x1b'), std::string::npos);
  const ProcessResult json = RunTprun({"doctor", "--format=json"});
  EXPECT_EQ(json.exit_code, result.exit_code);
  const auto parsed = ParseJson(json.out);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ((*parsed)["worst"] == "problem", json.exit_code == 1);
}

TEST(CliDoctor, ASickMachineEndsWithExitCode1) {
  const ProcessResult result = WithFakeDriver("sick", {"doctor", "--format=json"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  const auto json = ParseJson(result.out);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(Severity(*json, "gpu-errors"), "problem");
  EXPECT_EQ(Severity(*json, "gpu-clocks"), "warning");
  EXPECT_EQ(Severity(*json, "pcie-link"), "warning");
  EXPECT_EQ(Severity(*json, "nvswitch"), "problem");
  EXPECT_EQ(Severity(*json, "persistence"), "warning");
}

// A capture of a box far away is checked by the same code, as far as it tells.
TEST(CliDoctor, FromACapture) {
  const std::string path = ::testing::TempDir() + "/cli_doctor_test.yaml";
  const ProcessResult written = WithFakeDriver("unlike", {"topo", "--output=" + path});
  ASSERT_EQ(written.exit_code, 0) << written.err;
  const ProcessResult result = RunTprun({"doctor", "--from=" + path, "--format=json"});
  const auto json = ParseJson(result.out);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(result.exit_code, 1) << "4 of 16 lanes";
  EXPECT_EQ(Severity(*json, "pcie-link"), "problem");
  EXPECT_EQ(Severity(*json, "peer-access"), "warning");
  EXPECT_EQ(Severity(*json, "shm"), "") << "a capture does not tell";
  std::filesystem::remove(path);
}

TEST(CliDoctor, BadArguments) {
  EXPECT_EQ(RunTprun({"doctor", "--from=/nowhere.yaml"}).exit_code, 2);
  EXPECT_EQ(RunTprun({"doctor", "--format=svg"}).exit_code, 2);
}

}  // namespace
}  // namespace tprun
