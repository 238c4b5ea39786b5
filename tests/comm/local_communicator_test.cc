#include "comm/local_communicator.h"

#include <atomic>
#include <stdexcept>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "gtest/gtest.h"
#include "tests/comm/conformance_suite.h"

namespace tprun {
namespace {

std::string CheckName(const testing::TestParamInfo<std::tuple<ConformanceCheck, int>>& info) {
  return std::get<0>(info.param).name + "On" + std::to_string(std::get<1>(info.param));
}

class LocalConformance : public testing::TestWithParam<std::tuple<ConformanceCheck, int>> {};

TEST_P(LocalConformance, Holds) {
  const auto& [check, ranks] = GetParam();
  EXPECT_EQ(RunLocalRanks(ranks, absl::Seconds(60), check.run), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(Local, LocalConformance,
                         testing::Combine(testing::ValuesIn(ConformanceChecks()),
                                          testing::Range(1, 6)),
                         CheckName);

class LocalAbort : public testing::TestWithParam<std::tuple<ConformanceCheck, int>> {};

TEST_P(LocalAbort, WakesTheOthers) {
  const auto& [check, ranks] = GetParam();
  std::atomic<int> passed = 0;
  const absl::Status status = RunLocalRanks(ranks, absl::Seconds(60), [&](Communicator& comm) {
    const absl::Status ended = check.run(comm);
    if (ended.ok()) ++passed;
    EXPECT_EQ(ended, absl::OkStatus()) << "rank " << comm.rank();
    return ended;
  });
  EXPECT_EQ(passed, ranks);
  EXPECT_EQ(status, absl::AbortedError("rank " + std::to_string(ranks - 1) + ": no disk"));
}

INSTANTIATE_TEST_SUITE_P(Local, LocalAbort,
                         testing::Combine(testing::ValuesIn(AbortChecks()), testing::Values(2, 5)),
                         CheckName);

TEST(LocalCommunicatorTest, ALateRankIsNotWaitedForForEver) {
  EXPECT_EQ(RunLocalRanks(3, absl::Milliseconds(300), DeadlineCheck().run), absl::OkStatus());
}

TEST(LocalCommunicatorTest, TheDeadlineErrorNamesOperationAndRanks) {
  const absl::Status status =
      RunLocalRanks(3, absl::Milliseconds(100), [](Communicator& comm) -> absl::Status {
        if (comm.rank() == 1) return absl::OkStatus();
        ASSIGN_OR_RETURN(auto group, comm.Split({2, 0}));
        if (comm.rank() == 0) return absl::OkStatus();
        return group->Barrier();
      });
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(
      absl::StartsWith(status.message(), "rank 2: Barrier on rank 2 waited 100ms for rank 0: "))
      << status;
}

TEST(LocalCommunicatorTest, TheDeadlineErrorOfAMessageNamesItsPeer) {
  const absl::Status status =
      RunLocalRanks(3, absl::Milliseconds(100), [](Communicator& comm) -> absl::Status {
        char byte;
        return comm.rank() == 2 ? comm.Receive(&byte, 1, 1) : absl::OkStatus();
      });
  EXPECT_TRUE(
      absl::StartsWith(status.message(), "rank 2: Receive on rank 2 waited 100ms for rank 1: "))
      << status;
}

TEST(LocalCommunicatorTest, TheDeadlineErrorOfAGroupNamesTheGroup) {
  const absl::Status status =
      RunLocalRanks(3, absl::Milliseconds(100), [](Communicator& comm) -> absl::Status {
        return comm.rank() == 2 ? comm.Barrier() : absl::OkStatus();
      });
  EXPECT_TRUE(absl::StartsWith(status.message(),
                               "rank 2: Barrier on rank 2 of the group [0, 1, 2] waited 100ms"))
      << status;
}

TEST(LocalCommunicatorTest, TheFirstErrorIsTheResult) {
  const absl::Status status = RunLocalRanks(4, absl::Seconds(60), [](Communicator& comm) {
    return comm.rank() == 2 ? absl::NotFoundError("no model") : comm.Barrier();
  });
  EXPECT_EQ(status, absl::NotFoundError("rank 2: no model"));
}

TEST(LocalCommunicatorTest, AnAgreedErrorIsNotNamedTwice) {
  const absl::Status status = RunLocalRanks(3, absl::Seconds(60), [](Communicator& comm) {
    return AgreeOnStatus(comm,
                         comm.rank() == 1 ? absl::NotFoundError("no model") : absl::OkStatus());
  });
  EXPECT_EQ(status, absl::NotFoundError("rank 1: no model"));
}

TEST(LocalCommunicatorTest, AgreementAfterAnAbortKeepsItsText) {
  const absl::Status status = RunLocalRanks(2, absl::Seconds(60), [](Communicator& comm) {
    if (comm.rank() == 1) return absl::NotFoundError("no model");
    const absl::Status waited = comm.Barrier();
    EXPECT_EQ(waited, absl::AbortedError("rank 1 failed: no model"));
    EXPECT_EQ(AgreeOnStatus(comm, waited), waited);
    EXPECT_EQ(AgreeOnStatus(comm, absl::OkStatus()), waited);
    return waited;
  });
  EXPECT_EQ(status, absl::NotFoundError("rank 1: no model"));
}

TEST(LocalCommunicatorTest, AWaitOnAllRanksThatIsNeverOverIsLateOnAll) {
  const absl::Status late = absl::DeadlineExceededError("too slow");
  const absl::Status status = RunLocalRanks(2, absl::Milliseconds(300), [&](Communicator& comm) {
    return AwaitOnAllRanks(comm, late, [&] { return comm.rank() == 0; });
  });
  EXPECT_EQ(status, absl::DeadlineExceededError("rank 1: too slow"));
}

TEST(LocalCommunicatorTest, AnExceptionOfTheBodyIsAnError) {
  const absl::Status status =
      RunLocalRanks(2, absl::Seconds(60), [](Communicator& comm) -> absl::Status {
        if (comm.rank() == 0) throw std::runtime_error("thrown");
        return comm.Barrier();
      });
  EXPECT_EQ(status, absl::InternalError("rank 0: exception: thrown"));
}

TEST(LocalCommunicatorTest, DifferentCallsAreAnErrorNotACrash) {
  const absl::Status status = RunLocalRanks(2, absl::Seconds(60), [](Communicator& comm) {
    float values[8] = {};
    return comm.AllReduceSum(values, values, comm.rank() == 0 ? 8 : 4, DType::kF32);
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::StrContains(status.message(), "AllReduceSum(count 4, f32")) << status;
}

TEST(LocalCommunicatorTest, AMessageOfAnotherSizeIsAnError) {
  const absl::Status status = RunLocalRanks(2, absl::Seconds(60), [](Communicator& comm) {
    char bytes[16] = {};
    return comm.rank() == 0 ? comm.Send(bytes, 8, 1) : comm.Receive(bytes, 16, 0);
  });
  EXPECT_TRUE(absl::StrContains(status.message(), "wanted 16 bytes from rank 0, it sent 8"))
      << status;
}

TEST(LocalCommunicatorTest, AnInfiniteTimeoutWaits) {
  EXPECT_EQ(RunLocalRanks(2, absl::InfiniteDuration(),
                          [](Communicator& comm) {
                            if (comm.rank() == 1) absl::SleepFor(absl::Milliseconds(50));
                            return comm.Barrier();
                          }),
            absl::OkStatus());
}

TEST(LocalCommunicatorTest, ABadWorldSizeIsAnError) {
  for (int size : {-1, 0, 1000000}) {
    const absl::Status status =
        RunLocalRanks(size, absl::Seconds(1), [](Communicator&) { return absl::OkStatus(); });
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

}  // namespace
}  // namespace tprun
