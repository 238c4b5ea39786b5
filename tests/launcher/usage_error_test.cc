#include "launcher/usage_error.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(ClosestName, FindsTypos) {
  const std::vector<std::string> names = {"--prompt", "--prefill_chunk", "--max_tokens", "--top_k",
                                          "--top_p"};
  EXPECT_EQ(ClosestName("--promt", names), "--prompt");
  EXPECT_EQ(ClosestName("--max-tokens", names), "--max_tokens");
  EXPECT_EQ(ClosestName("--maxtokens", names), "--max_tokens");
  EXPECT_EQ(ClosestName("--top-p", names), "--top_p");
  EXPECT_EQ(ClosestName("--pormpt", names), "--prompt") << "a swap is one slip";
  EXPECT_EQ(ClosestName("--Prompt", names), "--prompt");
  EXPECT_EQ(ClosestName("--prefill", names), "--prefill_chunk") << "the only one that begins so";
  EXPECT_EQ(ClosestName("plna", {"plan", "run"}), "plan");
}

TEST(ClosestName, IsSilentAboutOtherWords) {
  EXPECT_EQ(ClosestName("--qwertyuiop", {"--prompt", "--top_k"}), "");
  EXPECT_EQ(ClosestName("x", {"run", "topo"}), "");
  EXPECT_EQ(ClosestName("", {"run"}), "");
  EXPECT_EQ(ClosestName("run", {}), "");
  // As many letters are wrong as right.
  EXPECT_EQ(ClosestName("foo", {"topo"}), "");
  EXPECT_EQ(ClosestName("plot", {"plan"}), "");
  EXPECT_EQ(ClosestName("--model", {"--limit", "--seed"}), "");
  EXPECT_EQ(ClosestName("--speed", {"--seed"}), "--seed");
  EXPECT_EQ(ClosestName("--ranks", {"--plan"}), "");
  EXPECT_EQ(ClosestName("--top", {"--top_k", "--top_p"}), "") << "one of several";
}

class UsageErrorText : public ::testing::Test {
 protected:
  std::string Parse(std::vector<std::string> arguments) {
    CLI::App app("", "tprun");
    app.require_subcommand(1);
    CLI::App* run = app.add_subcommand("run", "");
    std::string model, prompt;
    run->add_option("MODEL", model)->required();
    run->add_option("--prompt", prompt);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError& error) {
      return UsageError(app, error);
    }
    return "";
  }
};

TEST_F(UsageErrorText, IsOneLineWithASuggestion) {
  EXPECT_EQ(Parse({}), "wanted a command: run (`tprun --help` tells more)");
  EXPECT_EQ(Parse({"rum"}),
            "unknown command \"rum\"; did you mean run? (`tprun --help` tells more)");
  EXPECT_EQ(Parse({"run", "m", "--promt=x"}),
            "unknown option --promt; did you mean --prompt? (`tprun run --help` tells more)");
  EXPECT_EQ(Parse({"run"}), "MODEL is required (`tprun run --help` tells more)");
  EXPECT_EQ(Parse({"run", "m", "n"}),
            "unexpected argument \"n\"; a value with spaces needs quotes (`tprun run --help` tells "
            "more)");
}

TEST_F(UsageErrorText, AValueThatIsMissing) {
  EXPECT_EQ(Parse({"run", "m", "--prompt"}),
            "--prompt: wanted a value, found nothing (`tprun run --help` tells more)");
}

TEST_F(UsageErrorText, NamesTheTypoBeforeWhatIsMissingForIt) {
  EXPECT_EQ(Parse({"run", "--promt=x"}),
            "unknown option --promt; did you mean --prompt? (`tprun run --help` tells more)");
}

}  // namespace
}  // namespace tprun
