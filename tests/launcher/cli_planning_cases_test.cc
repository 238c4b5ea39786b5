// The five cases of docs/planning.md as a user types them: what goes wrong is predicted with its
// arithmetic, and every remedy that is an option makes it fit.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Model(const std::string& name) {
  return TestDataDirectory() + "/models/configs/" + name;
}

std::vector<std::string> Remedies(const std::string& out) {
  std::vector<std::string> remedies;
  for (absl::string_view line : absl::StrSplit(out, '\n')) {
    if (absl::ConsumePrefix(&line, "  would help: ")) remedies.emplace_back(line);
  }
  return remedies;
}

// "--kv_type=f16 and --context=9 (1.0 tokens/s)" as arguments; empty if it is no matter of options.
std::vector<std::string> OptionsOf(const std::string& remedy) {
  std::vector<std::string> options;
  const std::string text = remedy.substr(0, remedy.find(" ("));
  for (absl::string_view part : absl::StrSplit(text, " and ")) {
    if (!absl::StartsWith(part, "--")) return {};
    options.emplace_back(part);
  }
  return options;
}

// The arguments with these options in place of those of the same name.
std::vector<std::string> With(std::vector<std::string> arguments,
                              const std::vector<std::string>& options) {
  for (const std::string& option : options) {
    const std::string name = option.substr(0, option.find('=') + 1);
    bool replaced = false;
    for (std::string& argument : arguments) {
      if (!absl::StartsWith(argument, name)) continue;
      argument = option;
      replaced = true;
    }
    if (!replaced) arguments.push_back(option);
  }
  return arguments;
}

// Does not fit; returns the output.
std::string DoesNotFit(const std::vector<std::string>& arguments) {
  const ProcessResult result = RunTprun(arguments);
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("does not fit: rank 0 needs "));
  EXPECT_FALSE(Remedies(result.out).empty());
  for (const std::string& remedy : Remedies(result.out)) {
    const std::vector<std::string> changed = OptionsOf(remedy);
    if (changed.empty()) continue;
    const ProcessResult mended = RunTprun(With(arguments, changed));
    EXPECT_EQ(mended.exit_code, 0) << remedy << ": " << mended.err;
  }
  return result.out;
}

std::string Fits(const std::vector<std::string>& arguments) {
  const ProcessResult result = RunTprun(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.out;
}

// 8.17 GB of q8_0 and a cache in f32, 1 MiB for each of the 3000 steps that attention sees, however
// long a conversation lasts: it fits, and real time can be kept with the window full. Beside a
// desktop that leaves 11.2 GiB the cache has to be in f16.
TEST(CliPlanningCases, MoshiOnTwelveGigabytes) {
  TPRUN_NEEDS_TEST_DATA();
  const std::vector<std::string> plan = {"plan", Model("moshiko-7b"), "--devices=cuda:0",
                                         "--kv_type=f32"};
  const std::vector<std::string> q8_0 = With(plan, {"--weights=q8_0"});
  for (const std::string context : {"--context=4096", "--context=1000000"}) {
    const std::string out = Fits(With(q8_0, {"--topology=rtx3060:11.75GiB", context}));
    EXPECT_THAT(out, HasSubstr("2.93 GiB"));  // of cache
    EXPECT_THAT(out, HasSubstr("with 2999 positions in the cache"));
    EXPECT_THAT(out, Not(HasSubstr("prefill")));
    EXPECT_THAT(out, Not(HasSubstr("that are needed")));
  }
  const std::string out = DoesNotFit(With(q8_0, {"--topology=rtx3060:11.2GiB"}));
  EXPECT_THAT(out, HasSubstr("short 84.50 MiB"));
  EXPECT_THAT(Remedies(out), Contains(StartsWith("--kv_type=f16 (")));
  EXPECT_THAT(Fits(With(q8_0, {"--topology=rtx3060:11.2GiB", "--kv_type=f16"})),
              HasSubstr("1.47 GiB"));
  EXPECT_THAT(Remedies(DoesNotFit(With(plan, {"--topology=rtx3060:11.75GiB"}))),
              Contains(StartsWith("--weights=")));
}

TEST(CliPlanningCases, OrpheusOnTwelveGigabytes) {
  TPRUN_NEEDS_TEST_DATA();
  const std::vector<std::string> plan = {"plan", Model("orpheus-3b-0.1-ft"),
                                         "--topology=rtx3060:11.75GiB", "--devices=cuda:0",
                                         "--context=131072"};
  const std::string out = DoesNotFit(plan);
  EXPECT_THAT(out, HasSubstr("14.00 GiB"));  // 131072 positions of 114,688 bytes
  EXPECT_THAT(out, HasSubstr("most of it KV cache"));
  EXPECT_THAT(out, HasSubstr("of the 82.0 needed"));  // a shorter context alone is too slow
  const std::string slow = Fits(With(plan, {"--context=8192"}));
  EXPECT_THAT(slow, HasSubstr("less than the 82.0 that are needed"));
  const std::string fast = Fits(With(plan, {"--context=8192", "--weights=q4_k_m"}));
  EXPECT_THAT(fast, Not(HasSubstr("that are needed")));
  EXPECT_THAT(Fits(With(plan, {"--context=8192", "--sidecars=cpu"})),
              HasSubstr("SNAC 24 kHz codec, f32 (75.69 MiB) on cpu"));
}

TEST(CliPlanningCases, GlmVoice) {
  TPRUN_NEEDS_TEST_DATA();
  const auto plan = [](const std::string& machine) {
    return std::vector<std::string>{"plan", Model("glm-4-voice-9b"), "--topology=" + machine,
                                    "--context=8192"};
  };
  const std::vector<std::string> one = {"--devices=cuda:0"};
  const std::string twelve = DoesNotFit(With(plan("rtx3060"), one));
  EXPECT_THAT(twelve, HasSubstr("17.78 GiB"));
  EXPECT_THAT(twelve, HasSubstr("flow decoder and vocoder, f32 (505.4 MiB)"));
  EXPECT_THAT(Remedies(twelve), Contains(StartsWith("--weights=q6_k (")));
  // With the CPU's help it fits, but nobody would listen.
  EXPECT_THAT(Remedies(twelve), Contains(HasSubstr("of the 18.8 needed")));
  EXPECT_THAT(Fits(plan("rtx3060")), HasSubstr("less than the 18.8 that are needed"));
  const std::string sixteen = DoesNotFit(With(plan("rtx4080"), one));
  EXPECT_THAT(Remedies(sixteen), Contains(StartsWith("--weights=q8_0 (")));
  EXPECT_THAT(Fits(With(plan("rtx3090"), one)), Not(HasSubstr("that are needed")));
  const std::string two = Fits(plan("2xrtx3060"));
  EXPECT_THAT(two, HasSubstr("cuda:1"));
  EXPECT_THAT(two, Not(HasSubstr("that are needed")));
}

TEST(CliPlanningCases, LlamaOnFourGigabytes) {
  TPRUN_NEEDS_TEST_DATA();
  const std::vector<std::string> plan = {"plan", Model("Meta-Llama-3-8B"), "--weights=q4_k_m",
                                         "--topology=rtx3050tilaptop cpu:8c,32GiB,45GB/s",
                                         "--context=4096"};
  const std::string alone = DoesNotFit(With(plan, {"--devices=cuda:0"}));
  EXPECT_THAT(Remedies(alone), Contains(StartsWith("no --devices: layers on ")));
  const std::string out = Fits(plan);
  EXPECT_THAT(out, HasSubstr(" faster than cpu alone"));
  EXPECT_THAT(out, HasSubstr("32/32 x 10 layers"));  // on the CPU, 22 and the head on the card
  const std::string flags = Fits(With(plan, {"--format=llama.cpp"}));
  EXPECT_THAT(flags, HasSubstr("-ngl "));
}

// A prefill of 8192 tokens at once, as vLLM's profiling run has it.
TEST(CliPlanningCases, GemmaAtNinetyAndNinetyFivePercent) {
  TPRUN_NEEDS_TEST_DATA();
  const std::vector<std::string> plan = {"plan",
                                         Model("openchat-3.5-0106-gemma"),
                                         "--topology=rtx4090:23.65GiB",
                                         "--devices=cuda:0",
                                         "--context=8192",
                                         "--prefill_chunk=8192",
                                         "--utilization=0.90"};
  const std::string out = DoesNotFit(plan);
  EXPECT_THAT(out, HasSubstr("3.50 GiB"));   // 8192 positions of 458,752 bytes
  EXPECT_THAT(out, HasSubstr("21.29 GiB"));  // 0.90 of 23.65
  EXPECT_THAT(Remedies(out), Contains(StartsWith("--utilization=0.9")));
  EXPECT_THAT(Remedies(out), Contains(StartsWith("--context=")));
  Fits(With(plan, {"--utilization=0.95"}));
  Fits(With(plan, {"--prefill_chunk=512"}));  // what chunked prefill saves is enough as well
}

}  // namespace
}  // namespace tprun
