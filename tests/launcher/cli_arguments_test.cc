// Help, version and wrong arguments.
#include "absl/strings/str_split.h"
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
      {{"run", model, "--temperature=-1"}, "--temperature: wanted 0 to 100"},
      {{"run", model, "--temperature=abc"}, "--temperature: wanted a number, found abc"},
      {{"run", model, "--top_k=-1"}, "top_k: wanted 0 to 1073741824, found -1"},
      {{"run", model, "--temperature=nan"}, "--temperature: wanted 0 to 100"},
      {{"run", model, "--top_p=2"}, "--top_p: wanted 0 to 1, found 2"},
      {{"run", ""}, "MODEL: wanted a value"},
      {{"run", model, "--prompt"}, "--prompt: wanted a value, found nothing"},
      {{"run", model, "--devices=cuda:77"}, "--devices: no device \"cuda:77\""},
      {{"run", model, "--topology=/nowhere"}, "--topology: cannot open /nowhere"},
      {{"run", model, "--plan=/nowhere"}, "--plan: cannot open /nowhere"},
      {{"topo", "--from=/nowhere"}, "--from: cannot open /nowhere"},
      {{"topo", "--output=/nowhere/box.yaml"}, "--output: cannot write /nowhere/box.yaml"},
      {{"doctor", "--from=/nowhere"}, "--from: cannot open /nowhere"},
      {{"perplexity", model, "--file=/nowhere"}, "--file: cannot open /nowhere"},
      {{"plan", model, "--output=/nowhere/plan"}, "--output: cannot write /nowhere/plan"},
      {{"convert", model, "--weights=q8_0", "--output=/nowhere/x.gguf"}, "--output: cannot write"},
      {{"run", model, "--calibration=/nowhere"}, "--calibration: cannot open /nowhere"},
      {{"run", model, "--kv_type=fp8_e5m2"}, "--kv_type: a KV cache of type fp8_e5m2"},
      {{"plan", model, "--utilization=0"}, "--utilization: wanted 0.01 to 1, found 0"},
      {{"plan", model, "--min_speed=x"}, "--min_speed: wanted 1e-06 to 1e+09, found x"},
      {{"help", "plam"}, "unknown command \"plam\"; did you mean plan?"},
      {{"topo", "box.txt"}, "--from=FILE"},
      {{"run", model, "--context=0"}, "--context"},
      {{"run", model, "--context=513"}, "--context: wanted 1 to 512"},
      {{"run", model, "--backend=tcp"}, "--backend: wanted one of auto,mpi,local, found tcp"},
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
      {{"plan", model, "--weights=q2_0"}, "no encoder for q2_0 weights; there is one for: f32"},
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

TEST(CliArguments, HelpHasExamplesAndFitsATerminal) {
  for (const std::string command :
       {"topo", "doctor", "plan", "run", "perplexity", "bench", "convert"}) {
    const ProcessResult result = RunTprun({"help", command});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_THAT(result.out, HasSubstr("Examples:\n  tprun " + command));
    EXPECT_EQ(RunTprun({command, "--help"}).out, result.out);
    for (absl::string_view line : absl::StrSplit(result.out, '\n')) {
      EXPECT_LE(line.size(), 101) << line;
    }
  }
  EXPECT_EQ(RunTprun({"help"}).out, RunTprun({"--help"}).out);
  const std::string run = RunTprun({"help", "run"}).out;
  EXPECT_THAT(run, HasSubstr("--quiet                     Nothing on standard error"));
  EXPECT_THAT(run, HasSubstr("--seed N                    The same seed draws the same text [0]"));
  EXPECT_THAT(run, HasSubstr("--backend {auto,mpi,local}"));
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
