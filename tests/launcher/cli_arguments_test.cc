// Help, version and wrong arguments.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(CliHelp, GoesToStandardOutput) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--help"}, "Subcommands:"},    {{"-h"}, "Exit codes:"},
      {{"topo", "--help"}, "--from"},  {{"plan", "--help"}, "--topology"},
      {{"run", "--help"}, "--prompt"}, {{"bench", "--help"}, "--prompt_tokens"},
      {{"--version"}, "tprun "},
  };
  for (const auto& [arguments, expected] : cases) {
    const ProcessResult result = RunTprun(arguments);
    EXPECT_EQ(result.exit_code, 0) << arguments[0];
    EXPECT_THAT(result.out, HasSubstr(expected));
    EXPECT_EQ(result.err, "");
  }
}

// Each: what stands in the one line on standard error.
TEST(CliArguments, WrongOnesEndWithOneLineAndExitCode2) {
  const std::string model = SourcePath("models/stories");
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{}, "wanted a command: topo, doctor, plan, run"},
      {{"rum"}, "unknown command \"rum\"; did you mean run?"},
      {{"run"}, "MODEL is required"},
      {{"run", model, "--promt=x"}, "did you mean --prompt?"},
      {{"run", model, "once", "upon"}, "unexpected argument \"once\""},
      {{"run", model, "--max_tokens=x"}, "--max_tokens"},
      {{"run", model, "--max_tokens=-1"}, "--max_tokens"},
      {{"run", model, "--max_tokens=99999999999999999999"}, "--max_tokens"},
      {{"run", model, "--seed=-1"}, "--seed: wanted a whole number from 0"},
      {{"run", model, "--seed=99999999999999999999"}, "--seed"},
      {{"run", model, "--batch=2"}, "--batch is for plan"},
      {{"bench", model, "--batch=0"}, "--batch"},
      {{"run", model, "--plan=", "--quiet"}, "--plan: wanted a value"},
      {{"run", model, "--devices=", "--quiet"}, "--devices: wanted names"},
      {{"run", model, "--devices=cpu,,cpu"}, "--devices: wanted names"},
      {{"plan", model, "--shares="}, "--shares: wanted a value"},
      {{"topo", "--from=", "--format=text"}, "--from: wanted a value"},
      {{"run", model, "--temperature=-1"}, "temperature"},
      {{"run", model, "--temperature=nan"}, "temperature"},
      {{"run", model, "--top_p=2"}, "top_p"},
      {{"run", model, "--context=0"}, "--context"},
      {{"run", model, "--context=513"}, "--context: wanted 1 to 512"},
      {{"run", model, "--backend=tcp"}, "--backend"},
      {{"run", model, "--threads=-1"}, "--threads"},
      {{"run", model, "--format=xml"}, "--format"},
      {{"plan", model, "--batch=0"}, "--batch"},
      {{"plan", model, "--batch=65537"}, "--batch"},
      {{"plan", model, "--kv_type=q9"}, "--kv_type: unknown element type \"q9\""},
      {{"plan", model, "--split=rows"}, "--split: wanted auto, tensor or layer"},
      {{"plan", model, "--objective=fun"}, "--objective: wanted latency"},
      {{"plan", model, "--shares=5:x"}, "--shares: wanted numbers"},
      {{"plan", model, "--shares=5:2"}, "--shares"},
      {{"plan", model, "--shares=-1"}, "--shares"},
      {{"plan", model, "--weights=q4_k"}, "formats that fit: f32, f16, bf16"},
      {{"plan", model, "--weights=q9"}, "--weights"},
      {{"bench", model, "--prompt_tokens=600"}, "--prompt_tokens"},
      {{"topo", "--measure", "--from=x.yaml"}, "--measure"},
  };
  for (const auto& [arguments, expected] : cases) {
    const ProcessResult result = RunTprun(arguments);
    SCOPED_TRACE(arguments.empty() ? "no arguments" : arguments.back());
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("tprun: "));
    EXPECT_THAT(result.err, HasSubstr(expected));
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
}

TEST(CliArguments, AreToldOnceByTheRanksOfMpirun) {
  TPRUN_NEEDS_MPI();
  const ProcessResult result = RunUnderMpirun(2, {"run", "model", "--promt=x"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_EQ(result.out, "");
  ASSERT_EQ(TprunLines(result.err).size(), 1) << result.err;
  EXPECT_THAT(TprunLines(result.err)[0], HasSubstr("did you mean --prompt?"));
}

}  // namespace
}  // namespace tprun
