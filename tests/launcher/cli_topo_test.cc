#include <filesystem>
#include <string>
#include <utility>
#include <vector>

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
    const std::string name = entry.path().filename();
    if (entry.path().extension() != ".yaml" || name == "gpus.yaml" || name == "overheads.yaml") {
      continue;
    }
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

// The program with a made-up NVIDIA driver.
ProcessResult WithFakeDriver(const std::vector<std::string>& arguments) {
  return RunTprun(arguments, {.environment = {{"TPRUN_NVML_LIBRARY", FAKE_NVML},
                                              {"FAKE_NVML_MACHINE", "pair"}}});
}

class Capture : public testing::Test {
 protected:
  void TearDown() override {
    for (const char* extension : {"yaml", "json", "svg", "txt"}) {
      std::filesystem::remove(Path(extension));
    }
  }
  static std::string Path(const std::string& extension) {
    return ::testing::TempDir() + "/cli_topo_capture." + extension;
  }
};

TEST_F(Capture, PlansElsewhereAsOnTheBox) {
  ASSERT_EQ(WithFakeDriver({"topo", "--output=" + Path("yaml")}).exit_code, 0);
  ASSERT_EQ(RunTprun({"topo", "--from=" + Path("yaml"), "--output=" + Path("json")}).exit_code, 0);
  for (const std::string devices : {"cuda:0,cuda:2", "cuda:0,cuda:1,cuda:2", "cuda:1"}) {
    const std::vector<std::string> plan = {"plan", SourcePath("models/stories"), "--format=json",
                                           "--devices=" + devices};
    const ProcessResult on_the_box = WithFakeDriver(plan);
    ASSERT_EQ(on_the_box.exit_code, 0) << on_the_box.err;
    for (const std::string extension : {"yaml", "json"}) {
      std::vector<std::string> elsewhere = plan;
      elsewhere.push_back("--topology=" + Path(extension));
      EXPECT_EQ(RunTprun(elsewhere).out, on_the_box.out) << extension << " " << devices;
    }
  }
}

TEST_F(Capture, RoundTripsWithMeasuredFigures) {
  const ProcessResult measured = WithFakeDriver({"topo", "--measure", "--output=" + Path("yaml")});
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  EXPECT_THAT(measured.err, HasSubstr("measuring"));
  EXPECT_EQ(measured.out, "");
  const std::string from = "--from=" + Path("yaml");
  EXPECT_EQ(RunTprun({"topo", from, "--format=yaml"}).out, *ReadFile(Path("yaml")));
  ASSERT_EQ(RunTprun({"topo", from, "--output=" + Path("json")}).exit_code, 0);
  EXPECT_EQ(RunTprun({"topo", "--from=" + Path("json"), "--format=yaml"}).out,
            *ReadFile(Path("yaml")));
  const auto json = ReadJsonFile(Path("json"));
  ASSERT_TRUE(json.ok()) << json.status();
  const Json& cpu = (*json)["devices"][0];
  EXPECT_GT(cpu["measured"]["memory_bandwidth_bytes_per_s"], 1e8);
  EXPECT_GT(cpu["measured"]["matmul_ops_per_s"]["bf16"], 1e8);
  EXPECT_GT(cpu["measured"]["rank_latency_s"], 0);
  EXPECT_GT(cpu["measured"]["rank_bandwidth_bytes_per_s"], 1e6);
  EXPECT_EQ(cpu["sources"]["memory_bandwidth_bytes_per_s"], "estimate from the cores")
      << "the nominal figure stays";
  EXPECT_EQ((*json)["devices"][1]["measured"]["memory_bandwidth_bytes_per_s"], 0)
      << "this GPU is made up";
  EXPECT_THAT((*json)["notes"].dump(), HasSubstr("the GPUs were not measured"));
}

TEST_F(Capture, ExtensionPicksTheForm) {
  for (const auto& [extension, begin] :
       {std::pair("yaml", "# Written by tprun"), std::pair("json", "{"), std::pair("svg", "<"),
        std::pair("txt", "capture of ")}) {
    ASSERT_EQ(RunTprun({"topo", "--output=" + Path(extension)}).exit_code, 0);
    EXPECT_THAT(*ReadFile(Path(extension)), StartsWith(begin));
  }
  EXPECT_THAT(RunTprun({"topo", "--from=" + Path("yaml")}).out, StartsWith("capture of "));
  ASSERT_EQ(RunTprun({"topo", "--format=json", "--output=" + Path("txt")}).exit_code, 0);
  EXPECT_THAT(*ReadFile(Path("txt")), StartsWith("{")) << "--format goes before";
}

TEST_F(Capture, SeveralFilesAndStandardInputAreJoined) {
  const std::string matrix =
      "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
      "GPU0\t X \tNV4\t0-15\t0\n"
      "GPU1\tNV4\t X \t0-15\t0\n";
  const ProcessResult piped = RunTprun({"topo", "--from=-", "--format=json"}, {.input = matrix});
  ASSERT_EQ(piped.exit_code, 0) << piped.err;
  const auto alone = ParseJson(piped.out);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ((*alone)["devices"].size(), 2 + ((*alone)["devices"][0]["kind"] == "cpu" ? 1 : 0));
  const std::string csv =
      "index, name, memory.total [MiB]\n"
      "0, NVIDIA GeForce RTX 3090, 24576 MiB\n"
      "1, NVIDIA GeForce RTX 3090, 24576 MiB\n";
  ASSERT_TRUE(WriteFile(Path("txt"), csv).ok());
  const ProcessResult joined =
      RunTprun({"topo", "--from=-", "--from=" + Path("txt"), "--format=json"}, {.input = matrix});
  ASSERT_EQ(joined.exit_code, 0) << joined.err;
  EXPECT_THAT(joined.out, HasSubstr("RTX 3090"));
  EXPECT_THAT(joined.out, HasSubstr("\"kind\": \"nvlink\""));
  EXPECT_EQ(RunTprun({"topo", "--measure", "--from=-"}, {.input = matrix}).exit_code, 2);
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
