// A conversation through the built program.
#include <signal.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
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

// Of Llama 3, in short; the bundled model has the same token to begin a text with.
constexpr char kTemplate[] =
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 "
    "%}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if "
    "add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

// The bundled model with a chat template, which it was not made for.
class CliChat : public testing::Test {
 protected:
  void SetUp() override {
    model_ = JoinPath(
        testing::TempDir(),
        absl::StrCat("chat_", testing::UnitTest::GetInstance()->random_seed(), "_", getpid()));
    std::filesystem::copy(SourcePath("models/stories"), model_,
                          std::filesystem::copy_options::recursive);
    const std::string config = JoinPath(model_, "tokenizer_config.json");
    Json json = ReadJsonFile(config).value_or(Json::object());
    json["chat_template"] = kTemplate;
    ASSERT_TRUE(WriteFile(config, json.dump()).ok());
  }
  void TearDown() override { std::filesystem::remove_all(model_); }

  std::vector<std::string> Command(std::vector<std::string> more) const {
    std::vector<std::string> command = {"run",     model_,        "--max_tokens=20",
                                        "--quiet", "--threads=1", "--kv_type=f32"};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  ProcessResult Chat(const std::string& input, std::vector<std::string> more = {}) const {
    more.push_back("--chat");
    return RunTprun(Command(more), {.input = input});
  }

  // What the model says to a whole conversation at once, without anything kept from before.
  std::string Continue(const std::string& prompt) const {
    const ProcessResult result = RunTprun(Command({"--prompt=" + prompt, "--format=json"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::string text = ParseJson(result.out).value_or(Json::object())["text"];
    return text.substr(prompt.size());
  }

  std::string model_;
};

std::string Message(const std::string& role, const std::string& text) {
  return absl::StrCat("<|start_header_id|>", role, "<|end_header_id|>\n\n",
                      absl::StripAsciiWhitespace(text), "<|eot_id|>");
}

constexpr char kAssistant[] = "<|start_header_id|>assistant<|end_header_id|>\n\n";

TEST_F(CliChat, AnswersAsIfTheWholeConversationWereThePrompt) {
  std::string conversation = absl::StrCat(Message("user", "Tell me a story."), kAssistant);
  const std::string first = Continue(conversation);
  conversation = absl::StrCat(Message("user", "Tell me a story."), Message("assistant", first),
                              Message("user", "What then?"), kAssistant);
  const std::string second = Continue(conversation);
  const std::string expected = absl::StrCat(first, "\n", second, "\n");
  for (const std::vector<std::string>& ranks : std::vector<std::vector<std::string>>{
           {}, {"--devices=cpu,cpu", "--backend=local"}, {"--devices=cpu,cpu,cpu"}}) {
    const ProcessResult result = Chat("Tell me a story.\nWhat then?\n", ranks);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out, expected);
  }
  // The first message from the command line, the rest without a line's end.
  EXPECT_EQ(Chat("What then?", {"--prompt=Tell me a story."}).out, expected);
}

TEST_F(CliChat, TakesASystemMessageAndLongMessages) {
  const std::string answer = Continue(
      absl::StrCat(Message("system", "Be brief."), Message("user", "One\ntwo"), kAssistant));
  EXPECT_EQ(Chat("One\\\ntwo\n", {"--system=Be brief."}).out, answer + "\n");
}

TEST_F(CliChat, KnowsItsCommands) {
  const std::string once = Chat("Hello\n").out;
  EXPECT_EQ(Chat("Hello\n/reset\nHello\n/exit\nnever said\n").out, once + once);
}

TEST_F(CliChat, CtrlCEndsAnAnswerAndGoesOn) {
  for (const char* devices : {"cpu", "cpu,cpu"}) {
    // Plain loops are slow enough to be interrupted.
    TprunProcess job({"run", model_, "--chat", "--kernels=reference", "--context=512", "--quiet",
                      absl::StrCat("--devices=", devices)},
                     {.input = "Tell me a story.\n/exit\n"});
    ASSERT_TRUE(job.WaitForOutput(20)) << job.Err();
    job.Signal(SIGINT);
    const ProcessResult result = job.Wait();
    EXPECT_EQ(result.exit_code, 0) << devices << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_TRUE(absl::EndsWith(result.out, "\n")) << result.out;
    EXPECT_LT(result.out.size(), 1000) << devices;
  }
}

// Typing takes longer than a rank waits for another.
TEST_F(CliChat, RanksWaitForTheUser) {
  const std::string script =
      absl::StrCat("(sleep 3; echo Hello) | '", TprunPath(), "' run '", model_,
                   "' --chat --max_tokens=5 --quiet --timeout=1 --devices=cpu,cpu");
  TprunProcess job({"-c", script}, {}, "sh");
  const ProcessResult result = job.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_GT(result.out.size(), 1);
}

TEST_F(CliChat, TellsBadInput) {
  const auto fault = [](const ProcessResult& result) {
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_THAT(fault(RunTprun({"run", SourcePath("models/stories"), "--chat"})),
              HasSubstr("no chat template"));
  EXPECT_THAT(fault(RunTprun(Command({"--system=x"}))), HasSubstr("--chat"));
  EXPECT_THAT(fault(Chat("", {"--prompt=-"})), HasSubstr("--prompt=-"));
  EXPECT_THAT(fault(Chat("", {"--format=json"})), HasSubstr("--format=json"));
  EXPECT_THAT(fault(Chat("", {"--context=40", "--prompt=" + std::string(300, 'x')})),
              HasSubstr("the context of 40"));
}

}  // namespace
}  // namespace tprun
