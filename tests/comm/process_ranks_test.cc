#include "tests/comm/process_ranks.h"

#include <unistd.h>

#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "gtest/gtest.h"
#include "tests/comm/conformance_suite.h"

namespace tprun {
namespace {

TEST(ProcessRanksTest, Conform) {
  for (int ranks : {1, 3}) {
    const absl::Status status =
        RunProcessRanks(ranks, absl::Seconds(30), [](Communicator& comm) -> absl::Status {
          for (const ConformanceCheck& check : ConformanceChecks()) {
            const absl::Status status = check.run(comm);
            if (!status.ok()) return Annotate(status, check.name);
          }
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << ranks << " ranks: " << status;
  }
}

TEST(ProcessRanksTest, HearOfAnAbort) {
  for (const ConformanceCheck& check : AbortChecks()) {
    const absl::Status status = RunProcessRanks(3, absl::Seconds(30), check.run);
    EXPECT_EQ(status, absl::AbortedError("rank 2: no disk")) << check.name;
  }
}

TEST(ProcessRanksTest, ADeadRankIsTold) {
  const absl::Status status = RunProcessRanks(2, absl::Seconds(5), [](Communicator& comm) {
    if (comm.rank() == 1) _exit(1);
    return comm.Barrier();
  });
  EXPECT_TRUE(absl::StrContains(status.message(), "rank 1")) << status;
}

}  // namespace
}  // namespace tprun
