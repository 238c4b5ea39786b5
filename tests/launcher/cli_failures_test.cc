// A rank dies, the user interrupts, nobody reads: everything ends at once and is told.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr double kSoonSeconds = 10;  // a loaded machine included; on a quiet one it is under one

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The bench takes minutes if nobody ends it: the test has all the time to do so.
std::vector<std::string> LongBench(const std::string& devices, const std::string& backend) {
  return {
      "bench",         SourcePath("models/stories"), "--devices=" + devices, "--backend=" + backend,
      "--context=128", "--prompt_tokens=8",          "--tokens=100",         "--repeats=1000",
      "--threads=1"};
}

// Waits until the ranks have loaded their weights and compute.
bool WaitUntilRunning(const TprunProcess& job) {
  for (int i = 0; i < 600; ++i) {
    if (job.Err().find("predicted") != std::string::npos) {
      usleep(300'000);
      return true;
    }
    usleep(50'000);
  }
  return false;
}

// Ctrl-C ends a text with what there is, told by the exit code.
class CliInterrupt : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "mpi") TPRUN_NEEDS_MPI();
  }
  // Plain loops are slow enough to be interrupted.
  std::vector<std::string> Run(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {
        "run",         SourcePath("models/stories"), "--devices=cpu,cpu", "--backend=" + GetParam(),
        "--threads=1", "--kernels=reference",        "--ignore_eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_P(CliInterrupt, EndsATextWithWhatThereIs) {
  TprunProcess job(Run({"--max_tokens=500", "--prompt=Once upon a time"}));
  ASSERT_TRUE(job.WaitForOutput(60)) << job.Err();
  job.Signal(SIGINT);
  const ProcessResult result = job.Wait();
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_EQ(result.out.rfind("Once upon a time", 0), 0);
  EXPECT_EQ(result.out.back(), '\n');
  EXPECT_THAT(result.err, ContainsRegex("generated [0-9]+ tokens, .*\\(interrupted\\)\n"));
  EXPECT_THAT(TprunLines(result.err), IsEmpty());
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
}

// This machine takes seconds for it.
TEST_P(CliInterrupt, EndsALongPromptBetweenItsBlocks) {
  std::string prompt;
  for (int i = 0; i < 44; ++i) prompt += "Once upon a time, there was a cat. ";
  TprunProcess job(Run({"--max_tokens=20", "--prompt=" + prompt}));
  ASSERT_TRUE(job.WaitForOutput(prompt.size())) << job.Err();
  job.Signal(SIGINT);
  const ProcessResult result = job.Wait();
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_EQ(result.out, prompt + "\n");
  EXPECT_THAT(result.err, ContainsRegex("generated 0 tokens \\(interrupted\\)\n"));
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Backends, CliInterrupt, ::testing::Values("local", "mpi"));

class CliFailures : public ::testing::Test {
 protected:
  void SetUp() override { TPRUN_NEEDS_MPI(); }
};

// A rank is a supervisor and its child, which computes. `which`: 0 or 1.
void ExpectKilledRankIsTold(int rank, int which, int signal, const std::string& expected) {
  TprunProcess job(LongBench("cpu,cpu,cpu", "mpi"));
  ASSERT_TRUE(WaitUntilRunning(job)) << job.Err();
  const std::vector<pid_t> processes = job.Processes(rank);
  ASSERT_EQ(processes.size(), 2);
  const double start = Now();
  ASSERT_EQ(kill(processes[which], signal), 0);
  const ProcessResult result = job.Wait();
  EXPECT_LT(Now() - start, kSoonSeconds);
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, ContainsRegex(expected));
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
}

TEST_F(CliFailures, KilledRankIsNamedWithItsSignal) {
  ExpectKilledRankIsTold(1, 1, SIGKILL, "tprun: rank 1 was lost: killed by signal 9 .Killed.");
}

TEST_F(CliFailures, KilledFirstRankIsNamedWithItsSignal) {
  ExpectKilledRankIsTold(0, 1, SIGKILL, "tprun: rank 0 was lost: killed by signal 9 .Killed.");
}

TEST_F(CliFailures, CrashedRankIsNamedWithItsSignal) {
  ExpectKilledRankIsTold(2, 1, SIGSEGV, "rank 2.*signal 11");
}

TEST_F(CliFailures, KilledSupervisorIsTold) {
  ExpectKilledRankIsTold(1, 0, SIGKILL, "tprun: .*lost.*signal 9");
}

TEST_F(CliFailures, RankThatStandsStillEndsTheJobAfterTheTimeout) {
  std::vector<std::string> arguments = LongBench("cpu,cpu", "mpi");
  arguments.push_back("--timeout=2");
  TprunProcess job(arguments);
  ASSERT_TRUE(WaitUntilRunning(job)) << job.Err();
  const std::vector<pid_t> processes = job.Processes(1);
  ASSERT_EQ(processes.size(), 2);
  ASSERT_EQ(kill(processes[1], SIGSTOP), 0);
  const double start = Now();
  const ProcessResult result = job.Wait();
  EXPECT_LT(Now() - start, 2 + kSoonSeconds);
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_THAT(result.err, ContainsRegex("tprun: [^\n]* on rank 0 waited 2s for rank 1: "));
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
}

// A model whose weights are all NaN.
class NanModel {
 public:
  NanModel() : path_(absl::StrCat(::testing::TempDir(), "/nan_model_", getpid())) {
    std::filesystem::copy(SourcePath("models/stories"), path_);
    const std::string file = path_ + "/model.safetensors";
    std::string bytes = ReadFile(file).value_or("");
    uint64_t header = 0;
    if (bytes.size() > sizeof(header)) std::memcpy(&header, bytes.data(), sizeof(header));
    if (header + sizeof(header) < bytes.size()) {
      std::fill(bytes.begin() + static_cast<int64_t>(header + sizeof(header)), bytes.end(), '\xff');
    }
    EXPECT_TRUE(WriteFile(file, bytes).ok());
  }
  ~NanModel() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Found by one rank, when the others already wait for it.
TEST(CliFailuresOfOneRank, AreToldOnce) {
  const NanModel model;
  for (const std::string backend : {"local", "mpi"}) {
    if (backend == "mpi" && !HaveMpirun()) continue;
    SCOPED_TRACE(backend);
    const ProcessResult result =
        RunTprun({"run", model.path(), "--devices=cpu,cpu,cpu", "--backend=" + backend, "--quiet",
                  "--threads=1", "--timeout=10"});
    EXPECT_EQ(result.exit_code, 1);
    // mpirun may add warnings of its own event loop.
    EXPECT_THAT(TprunLines(result.err),
                ElementsAre("tprun: the model gave no finite logit: its weights may be damaged"));
  }
}

// Rank 0 makes 40 times as many weights as rank 1, which takes it longer than the timeout.
TEST(CliLoading, MayTakeLongerThanTheTimeout) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/slow_config_", getpid(), ".json");
  ASSERT_TRUE(WriteFile(path, R"({"model_type": "llama", "hidden_size": 2048,
      "num_hidden_layers": 32, "intermediate_size": 8192, "vocab_size": 32000,
      "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 64,
      "tie_word_embeddings": true})")
                  .ok());
  const ProcessResult result = RunTprun(
      {"bench", path, "--weights=q4_0", "--devices=cpu,cpu", "--shares=40:1", "--timeout=1",
       "--threads=1", "--prompt_tokens=1", "--tokens=1", "--repeats=1", "--format=json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::filesystem::remove(path);
}

void ExpectSignalEndsAll(const std::string& backend, int signal) {
  TprunProcess job(LongBench("cpu,cpu,cpu", backend));
  ASSERT_TRUE(WaitUntilRunning(job)) << job.Err();
  const double start = Now();
  job.Signal(signal);
  const ProcessResult result = job.Wait();
  EXPECT_LT(Now() - start, 3);
  EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
  // An interrupted run is no lost rank.
  EXPECT_EQ(result.err.find("lost"), std::string::npos) << result.err;
}

TEST_F(CliFailures, InterruptEndsAllRanks) { ExpectSignalEndsAll("mpi", SIGINT); }
TEST_F(CliFailures, TerminationEndsAllRanks) { ExpectSignalEndsAll("mpi", SIGTERM); }
TEST_F(CliFailures, HangupEndsAllRanks) { ExpectSignalEndsAll("mpi", SIGHUP); }
TEST(CliFailuresLocal, InterruptEndsThreads) { ExpectSignalEndsAll("local", SIGINT); }
TEST(CliFailuresLocal, TerminationEndsThreads) { ExpectSignalEndsAll("local", SIGTERM); }

TEST_F(CliFailures, KilledLauncherLeavesNoRanks) {
  TprunProcess job(LongBench("cpu,cpu,cpu", "mpi"));
  ASSERT_TRUE(WaitUntilRunning(job)) << job.Err();
  job.Signal(SIGKILL);
  EXPECT_EQ(job.Wait().exit_code, 128 + SIGKILL);
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
}

// A reader that has seen enough (`| head -c 10`) is no failure worth a message.
class CliClosedOutput : public ::testing::TestWithParam<std::string> {};

TEST_P(CliClosedOutput, EndsQuietly) {
  if (GetParam().find("mpi") != std::string::npos) TPRUN_NEEDS_MPI();
  TprunProcess job(
      {"-c", absl::StrCat("'", TprunPath(), "' run '", SourcePath("models/stories"),
                          "' --prompt='Once upon a time' --max_tokens=100000 --ignore_eos "
                          "--quiet --threads=1 ",
                          GetParam(), " | head -c 10")},
      {}, "/bin/sh");
  const ProcessResult result = job.Wait();
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.out, "Once upon ");
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(job.ProcessesLeft(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Ways, CliClosedOutput,
                         ::testing::Values("--devices=cpu", "--devices=cpu,cpu --backend=local",
                                           "--devices=cpu,cpu --backend=mpi"));

// A disk that is full is one.
TEST_P(CliClosedOutput, FullDiskIsTold) {
  if (GetParam().find("mpi") != std::string::npos) TPRUN_NEEDS_MPI();
  TprunProcess job(
      {"-c", absl::StrCat("'", TprunPath(), "' run '", SourcePath("models/stories"),
                          "' --max_tokens=50 --quiet --threads=1 ", GetParam(), " >/dev/full")},
      {}, "/bin/sh");
  const ProcessResult result = job.Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(TprunLines(result.err),
              ElementsAre("tprun: cannot write to standard output: No space left on device"));
}

TEST(CliClosedOutputPlan, EndsQuietly) {
  TprunProcess job({"-c", absl::StrCat("'", TprunPath(), "' plan '", SourcePath("models/stories"),
                                       "' --format=json | true")},
                   {}, "/bin/sh");
  EXPECT_EQ(job.Wait().err, "");
}

}  // namespace
}  // namespace tprun
