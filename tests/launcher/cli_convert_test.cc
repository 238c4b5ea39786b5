// GGUF files out of other checkpoints, and what is left when that does not work out.
#include <sys/stat.h>
#include <unistd.h>
#include <csignal>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/temporary_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

class CliConvert : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.File(name); }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  static std::string Generate(const std::string& model, const std::string& option = "") {
    std::vector<std::string> arguments = {
        "run",           model,         "--prompt=Once upon a time",
        "--kv_type=f32", "--threads=1", "--max_tokens=48",
        "--quiet"};
    if (!option.empty()) arguments.push_back(option);
    const ProcessResult result = RunTprun(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }

  TemporaryFolder folder_ = TemporaryFolder::Make("tprun-convert").value();
  const std::string stories_ = SourcePath("models/stories");
};

TEST_F(CliConvert, TheFileGivesTheSameText) {
  const std::string path = Path("stories.gguf");
  const ProcessResult result = RunTprun({"convert", stories_, "--output=" + path});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("wrote " + path));
  const std::string text = Generate(stories_);
  EXPECT_GT(text.size(), 100);
  EXPECT_EQ(Generate(path), text);
  EXPECT_EQ(Files(), std::vector<std::string>{"stories.gguf"});
}

// Rows of q and k change places on the way, which no block notices.
TEST_F(CliConvert, AQuantisedFileIsWhatQuantisingOnLoadGives) {
  for (const std::string type : {"q8_0", "q4_k_m"}) {
    const std::string path = Path(type + ".gguf");
    const ProcessResult result =
        RunTprun({"convert", stories_, "--weights=" + type, "--output=" + path, "--quiet"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(Generate(path), Generate(stories_, "--weights=" + type));
    // Of GGUF in turn: no row moves.
    const std::string wide = Path("wide.gguf");
    const std::string again = Path("again.gguf");
    RunTprun({"convert", stories_, "--output=" + wide, "--force"});
    RunTprun({"convert", wide, "--weights=" + type, "--output=" + again, "--force"});
    EXPECT_EQ(Generate(again), Generate(path));
  }
}

TEST_F(CliConvert, AFileThatIsThereStaysUnlessForced) {
  const std::string path = Path("stories.gguf");
  ASSERT_TRUE(WriteFile(path, "precious").ok());
  const ProcessResult refused = RunTprun({"convert", stories_, "--output=" + path});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("is there already; name another file or say --force"));
  EXPECT_EQ(ReadFile(path).value_or(""), "precious");
  EXPECT_EQ(RunTprun({"convert", stories_, "--output=" + path, "--force"}).exit_code, 0);
  EXPECT_NE(ReadFile(path).value_or(""), "precious");
  const ProcessResult itself = RunTprun({"convert", path, "--output=" + path, "--force"});
  EXPECT_EQ(itself.exit_code, 2);
  EXPECT_THAT(itself.err, HasSubstr("is the model itself"));
}

TEST_F(CliConvert, AnInterruptedOneLeavesNothing) {
  TprunProcess job(
      {"convert", stories_, "--weights=iq4_nl", "--threads=1", "--output=" + Path("stories.gguf")});
  for (int i = 0; i < 500 && Files().empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(Files().size(), 1);  // the temporary file
  job.Signal(SIGINT);
  const ProcessResult result = job.Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("interrupted; nothing was written"));
  EXPECT_TRUE(Files().empty());
}

TEST_F(CliConvert, BadArgumentsEndWithOneLineAndExitCode2) {
  const std::string config = SourcePath("tools/geometries/llama-3.2-1b.json");
  const std::string out = "--output=" + Path("x.gguf");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"convert", stories_}, "--output"},
      {{"convert", stories_, "--output="}, "--output"},
      {{"convert", stories_, "--output=" + folder_.path()}, "is a folder"},
      {{"convert", stories_, "--output=" + folder_.path() + "/none/x.gguf"}, "No such file"},
      {{"convert", "/nowhere", out}, "/nowhere"},
      {{"convert", config, out}, "has no weights to convert"},
      {{"convert", stories_, out, "--weights=q9"}, "mxfp4), found \"q9\""},
      {{"convert", stories_, out, "--weights=fp8"},
       "--weights: wanted a type that GGUF has and that can be made (f32, f16, bf16, q8_0, "},
      {{"convert", SourcePath("tests/golden/moshi"), out}, "cannot be written as GGUF"},
      {{"convert", SourcePath("tests/golden/llama_gqa"), out, "--weights=q4_k"},
       "formats that fit"}};
  for (const auto& [arguments, expected] : cases) {
    const ProcessResult result = RunTprun(arguments);
    SCOPED_TRACE(expected);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(expected));
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
  EXPECT_TRUE(Files().empty());
}

// Every golden checkpoint that has a GGUF form goes there and comes back the same model.
TEST_F(CliConvert, EveryArchitectureOfGgufConverts) {
  for (const std::string name : {"llama_gqa",
                                 "llama_tied",
                                 "llama_attention_bias",
                                 "llama_rope_llama3",
                                 "llama_rope_linear",
                                 "llama_f16",
                                 "llama_sharded",
                                 "mistral_window",
                                 "qwen2",
                                 "qwen3",
                                 "gemma",
                                 "phi3",
                                 "phi3_long_rope",
                                 "glm",
                                 "glm4",
                                 "chatglm",
                                 "mixtral",
                                 "qwen2_moe",
                                 "qwen3_moe",
                                 "deepseek_v3",
                                 "gpt_oss_mxfp4"}) {
    const std::string path = Path(name + ".gguf");
    const ProcessResult result =
        RunTprun({"convert", SourcePath("tests/golden/" + name), "--output=" + path});
    EXPECT_EQ(result.exit_code, 0) << name << ": " << result.err;
    EXPECT_TRUE(FileExists(path)) << name;
  }
}

// What is no plain file would be replaced by one, and be lost.
TEST_F(CliConvert, DoesNotReplaceWhatIsNoFile) {
  const std::string pipe = testing::TempDir() + "/convert_fifo";
  unlink(pipe.c_str());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const ProcessResult result =
      RunTprun({"convert", SourcePath("models/stories"), "--output=" + pipe, "--force"});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr("is no plain file"));
  EXPECT_EQ(std::filesystem::status(pipe).type(), std::filesystem::file_type::fifo);
  unlink(pipe.c_str());
}

}  // namespace
}  // namespace tprun
