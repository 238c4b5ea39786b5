#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(CliTopo, ShowsThisMachine) {
  const ProcessResult result = RunTprun({"topo"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("this machine"));
  EXPECT_THAT(result.out, HasSubstr("cpu"));
  EXPECT_EQ(result.out.find('\x1b'), std::string::npos) << "colour without a terminal";
}

TEST(CliTopo, JsonParses) {
  const ProcessResult result = RunTprun({"topo", "--format=json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = ParseJson(result.out);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_GE((*json)["devices"].size(), 1);
}

TEST(CliTopo, ReadsEveryClusterFileInEveryFormat) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SourcePath("clusters"))) {
    const std::string path = entry.path();
    if (entry.path().extension() != ".yaml" || entry.path().filename() == "gpus.yaml") continue;
    ++files;
    for (const std::string format : {"text", "json", "svg", "yaml"}) {
      const ProcessResult result = RunTprun({"topo", "--from=" + path, "--format=" + format});
      EXPECT_EQ(result.exit_code, 0) << path << " " << format << ": " << result.err;
      EXPECT_NE(result.out, "");
    }
  }
  EXPECT_GE(files, 3);
}

TEST(CliTopo, YamlOfThisMachineIsAClusterFile) {
  const std::string path = ::testing::TempDir() + "/cli_topo_test.yaml";
  const ProcessResult written = RunTprun({"topo", "--format=yaml", "--output=" + path});
  ASSERT_EQ(written.exit_code, 0) << written.err;
  EXPECT_EQ(written.out, "");
  const ProcessResult read = RunTprun({"topo", "--from=" + path, "--format=json"});
  EXPECT_EQ(read.exit_code, 0) << read.err;
  std::filesystem::remove(path);
}

TEST(CliTopo, BadFilesEndWithExitCode2) {
  const std::string path = ::testing::TempDir() + "/cli_topo_test_bad.yaml";
  for (const std::string text : {"", "hosts: [", "{}", "name: 3\nhosts: 7\n", "\x01\x02\xff"}) {
    ASSERT_TRUE(WriteFile(path, text).ok());
    const ProcessResult result = RunTprun({"topo", "--from=" + path});
    EXPECT_EQ(result.exit_code, 2) << text;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("tprun: "));
  }
  EXPECT_EQ(RunTprun({"topo", "--from=/nowhere.yaml"}).exit_code, 2);
  EXPECT_EQ(RunTprun({"topo", "--from=/"}).exit_code, 2);
  EXPECT_EQ(RunTprun({"topo", "--output=/nowhere/x"}).exit_code, 2);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tprun
