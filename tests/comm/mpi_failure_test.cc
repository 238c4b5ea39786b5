// Starts ranks that fail on purpose, and looks at how they end.
#include <sys/wait.h>

#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "comm/mpi_communicator.h"
#include "gtest/gtest.h"
#include "tests/comm/conformance_suite.h"

namespace tprun {
namespace {

struct Ended {
  int exit_code = -1;
  std::string output;
  absl::Duration took;
};

Ended RunRanks(int ranks, const std::string& name) {
  const std::string command = absl::StrCat("timeout 60 ", TPRUN_MPI_LAUNCHER, " -n ", ranks, " '",
                                           TPRUN_MPI_CONFORMANCE, "' ", name, " 2>&1 </dev/null");
  Ended run;
  const absl::Time start = absl::Now();
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return run;
  char buffer[4096];
  while (const size_t bytes = fread(buffer, 1, sizeof(buffer), pipe)) {
    run.output.append(buffer, bytes);
  }
  const int status = pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  run.took = absl::Now() - start;
  return run;
}

class MpiAbort : public testing::TestWithParam<ConformanceCheck> {};

TEST_P(MpiAbort, IsHeardByAllRanks) {
  constexpr int kRanks = 3;
  const Ended run = RunRanks(kRanks, GetParam().name);
  for (int r = 0; r < kRanks; ++r) {
    EXPECT_TRUE(absl::StrContains(run.output,
                                  absl::StrCat("passed ", GetParam().name, " on rank ", r, "\n")))
        << run.output;
  }
  EXPECT_NE(run.exit_code, 0);
  EXPECT_LT(run.took, absl::Seconds(10));
}

INSTANTIATE_TEST_SUITE_P(Mpi, MpiAbort, testing::ValuesIn(AbortChecks()),
                         [](const auto& info) { return info.param.name; });

TEST(MpiDeadlineTest, ALateRankIsNotWaitedForForEver) {
  const Ended run = RunRanks(2, "Deadline");
  EXPECT_TRUE(absl::StrContains(run.output, "passed Deadline on rank 0")) << run.output;
  EXPECT_LT(run.took, absl::Seconds(8));
}

// The grace is 1.5 s; the rest is the start of mpirun and a busy machine.
TEST(MpiAbortTest, EndsRanksThatCompute) {
  for (const char* name : {"computing", "held"}) {
    const Ended run = RunRanks(3, name);
    EXPECT_NE(run.exit_code, 0) << name;
    EXPECT_LT(run.took, absl::Seconds(8)) << name << run.output;
  }
}

TEST(MpiSessionTest, ARankThatLeavesIsAnErrorNotAHang) {
  const Ended run = RunRanks(2, "leaves");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_LT(run.took, absl::Seconds(10)) << run.output;
  EXPECT_TRUE(absl::StrContains(run.output, "FAILED leaves on rank 0")) << run.output;
}

TEST(MpiVersionTest, NamesTheLibrary) {
  EXPECT_TRUE(MpiBuilt());
  const std::string version = MpiVersion();
  EXPECT_TRUE(absl::StartsWith(version, "Open MPI ") || absl::StartsWith(version, "MPICH "))
      << version;
  EXPECT_EQ(version.find_first_of("\n\t,"), version.npos) << version;
}

}  // namespace
}  // namespace tprun
