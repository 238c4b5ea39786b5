// The host side of the NCCL back end, over an NCCL and a CUDA runtime that are faked: what it does
// when a rank is lost, when NCCL cannot start, and with a window of each kind.
#include "comm/nccl_communicator.h"

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "base/status_macros.h"
#include "comm/cuda_device.h"
#include "comm/local_communicator.h"
#include "gmock/gmock.h"
#include "tests/comm/fake_cuda_runtime.h"
#include "tests/comm/fake_nccl.h"

namespace tprun {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr int kRanks = 2;
constexpr absl::Duration kTimeout = absl::Seconds(30);
constexpr std::chrono::seconds kPatience(10);
constexpr int64_t kCount = 1000;
constexpr int64_t kBytes = kCount * static_cast<int64_t>(sizeof(float));

using Body = std::function<absl::Status(Communicator&, CudaDevice&)>;

class NcclCommunicatorTest : public testing::Test {
 protected:
  NcclCommunicatorTest() { UseNccl(&nccl_); }

  absl::Status Run(const Body& body) {
    return RunLocalRanks(kRanks, kTimeout,
                         [&](Communicator& world) { return RunRank(world, body); });
  }

  absl::Status RunRank(Communicator& world, const Body& body) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, CudaDevice::Open(0));
    ASSIGN_OR_RETURN(CudaDevice* const cuda, CudaDevice::Of(*device));
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> own, world.Split({0, 1}));
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                     MakeNcclCommunicator(PeerGroup{std::move(own), {0, 1}}, *device, {}));
    if (comm->rank() == 0) description_ = comm->description();
    return body(*comm, *cuda);
  }

  void AwaitAborts(int count) {
    const auto begin = std::chrono::steady_clock::now();
    while (nccl_.aborted < count && std::chrono::steady_clock::now() - begin < kPatience) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(nccl_.aborted, count);
  }

  FakeNccl nccl_;
  std::string description_;
};

// Rank r gives r + 1.
absl::Status SumRightAt(void* at, Communicator& comm, CudaDevice& device) {
  std::vector<float> values(kCount, static_cast<float>(comm.rank() + 1));
  RETURN_IF_ERROR(device.CopyFromHost(at, values.data(), kBytes));
  RETURN_IF_ERROR(comm.AllReduceSum(at, at, kCount, DType::kF32));
  RETURN_IF_ERROR(device.CopyToHost(values.data(), at, kBytes));
  if (values == std::vector<float>(kCount, 3.0f)) return absl::OkStatus();
  return absl::InternalError("the sum is wrong");
}

absl::Status SumRight(Communicator& comm, CudaDevice& device) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer, device.Allocate(kBytes));
  return SumRightAt(buffer->data(), comm, device);
}

TEST_F(NcclCommunicatorTest, SumsInAWindowThatIsFaster) {
  EXPECT_EQ(Run(SumRight), absl::OkStatus());
  EXPECT_THAT(description_, HasSubstr("in a symmetric window"));
  EXPECT_EQ(nccl_.begun, kRanks);
  EXPECT_EQ(nccl_.destroyed, kRanks);
  EXPECT_EQ(nccl_.windows_closed, kRanks);
  EXPECT_EQ(nccl_.freed, kRanks);
  EXPECT_EQ(nccl_.aborted, 0);
}

// Both ranks have their parts there, then rank 0 has it elsewhere.
TEST_F(NcclCommunicatorTest, ASumInItsBufferIsNotCopied) {
  std::array<int, kRanks> copies = {};
  EXPECT_EQ(Run([&](Communicator& comm, CudaDevice& device) -> absl::Status {
              EXPECT_EQ(comm.SumBuffer(kNcclWindowBytes + 1), nullptr);
              void* const window = comm.SumBuffer(kBytes);
              if (window == nullptr) return absl::InternalError("there is no buffer");
              ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> elsewhere, device.Allocate(kBytes));
              for (int with_copies = 0; with_copies < 2; ++with_copies) {
                void* const at = comm.rank() < with_copies ? elsewhere->data() : window;
                RETURN_IF_ERROR(comm.Barrier());
                const int before = CopiesWithinDevices();
                RETURN_IF_ERROR(SumRightAt(at, comm, device));
                RETURN_IF_ERROR(comm.Barrier());
                if (comm.rank() == 0) copies[with_copies] = CopiesWithinDevices() - before;
              }
              return absl::OkStatus();
            }),
            absl::OkStatus());
  EXPECT_EQ(copies[0], 0);
  EXPECT_EQ(copies[1], 2);
}

TEST_F(NcclCommunicatorTest, ClosesAWindowThatIsNotFaster) {
  nccl_.window_delay_us = 4000;
  EXPECT_EQ(Run(SumRight), absl::OkStatus());
  EXPECT_THAT(description_, HasSubstr("no symmetric window: a sum of 400 KB took"));
  EXPECT_EQ(nccl_.windows_closed, kRanks);
  EXPECT_EQ(nccl_.freed, kRanks);
  EXPECT_EQ(nccl_.begun, kRanks) << "the communicator is made once";
  EXPECT_EQ(nccl_.aborted, 0);
}

TEST_F(NcclCommunicatorTest, GoesOnWithTheSameCommunicatorWithoutAWindow) {
  nccl_.windows_are_null = true;
  EXPECT_EQ(Run(SumRight), absl::OkStatus());
  EXPECT_THAT(description_, HasSubstr("NCCL has none between these GPUs"));
  EXPECT_EQ(nccl_.freed, kRanks);
  EXPECT_EQ(nccl_.begun, kRanks);
}

TEST_F(NcclCommunicatorTest, IsMadeAgainAfterAWrongSumInTheWindow) {
  nccl_.windows_sum_wrong = true;
  EXPECT_EQ(Run(SumRight), absl::OkStatus());
  EXPECT_THAT(description_, HasSubstr("1 wrong elements"));
  EXPECT_EQ(nccl_.begun, 2 * kRanks);
  EXPECT_EQ(nccl_.aborted, kRanks);
  EXPECT_EQ(nccl_.freed, kRanks);
}

// The rank that is ready waits for one that will never come, which ends when that one has failed.
TEST_F(NcclCommunicatorTest, AnNcclThatCannotStartIsSoonAPreconditionOnAllRanks) {
  nccl_.failing_rank = 1;
  for (const bool later : {false, true}) {
    nccl_.fails_later = later;
    nccl_.begun = nccl_.aborted = 0;
    std::array<absl::Status, kRanks> each;
    const auto begin = std::chrono::steady_clock::now();
    const absl::Status status = RunLocalRanks(kRanks, kTimeout, [&](Communicator& world) {
      return each[world.rank()] = RunRank(world, SumRight);
    });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, absl::ToChronoSeconds(kTimeout) / 3);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(each, Each(status));
    EXPECT_THAT(
        std::string(status.message()),
        MatchesRegex("rank 1: starting over NCCL failed on cuda:0 Fake GPU \\(0000:3b:00.0\\) in "
                     "the group \\[0, 1\\]: a fake error; .*--shm-size=1g.*NCCL_DEBUG=WARN.*"));
    AwaitAborts(later ? 2 : 1);
  }
}

// All ranks are there, and only NCCL does not get through: others ways may.
TEST_F(NcclCommunicatorTest, AnNcclThatNeverStartsIsAPreconditionToo) {
  nccl_.never_starts = true;
  const absl::Status status = RunLocalRanks(
      kRanks, absl::Seconds(1), [&](Communicator& world) { return RunRank(world, SumRight); });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("NCCL_SOCKET_IFNAME"));
  AwaitAborts(kRanks);
}

TEST_F(NcclCommunicatorTest, IsMadeAgainAfterASumInTheWindowThatDoesNotEnd) {
  nccl_.windows_hang = true;
  EXPECT_EQ(RunLocalRanks(kRanks, absl::Seconds(1),
                          [&](Communicator& world) { return RunRank(world, SumRight); }),
            absl::OkStatus());
  EXPECT_THAT(description_,
              HasSubstr("no symmetric window: rank 0: AllReduceSum on rank 0 waited"));
  EXPECT_EQ(nccl_.begun, 2 * kRanks);
}

TEST_F(NcclCommunicatorTest, IsMadeAgainWhereOneRankCannotRegisterAWindow) {
  nccl_.rank_without_window = 0;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Run(SumRight), absl::OkStatus());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, absl::ToChronoSeconds(kTimeout) / 3);
  EXPECT_THAT(description_, HasSubstr("no symmetric window: rank 0: registering a window over"));
  EXPECT_EQ(nccl_.begun, 2 * kRanks);
  EXPECT_EQ(nccl_.aborted, kRanks);
}

// A rank is lost in a step that was recorded: the graph lives until the error has been told.
TEST_F(NcclCommunicatorTest, ALostRankIsToldWhileAGraphHoldsTheCommunicator) {
  const absl::Status status = Run([&](Communicator& comm, CudaDevice& device) -> absl::Status {
    if (comm.rank() == 1) return absl::ResourceExhaustedError("no disk");
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer, device.Allocate(kBytes));
    nccl_.graphs = 1;
    RETURN_IF_ERROR(comm.AllReduceSum(buffer->data(), buffer->data(), kCount, DType::kF32));
    const absl::Status told = device.Synchronize();
    EXPECT_EQ(nccl_.aborted, 0);
    EXPECT_EQ(comm.AllReduceSum(buffer->data(), buffer->data(), kCount, DType::kF32), told);
    nccl_.graphs = 0;
    return told;
  });
  EXPECT_EQ(status, absl::ResourceExhaustedError("rank 1: no disk"));
  EXPECT_EQ(nccl_.freed, kRanks);
}

TEST_F(NcclCommunicatorTest, AnAbortThatDoesNotEndHoldsUpNobodyForLong) {
  nccl_.graphs = 1;
  const absl::Status status = Run([&](Communicator& comm, CudaDevice& device) -> absl::Status {
    if (comm.rank() == 1) return absl::ResourceExhaustedError("no disk");
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer, device.Allocate(kBytes));
    RETURN_IF_ERROR(comm.AllReduceSum(buffer->data(), buffer->data(), kCount, DType::kF32));
    return device.Synchronize();
  });
  EXPECT_EQ(status, absl::ResourceExhaustedError("rank 1: no disk"));
  EXPECT_LT(nccl_.freed, kRanks) << "memory that NCCL may still use";
  const int ending = nccl_.begun - nccl_.destroyed;
  nccl_.graphs = 0;
  AwaitAborts(ending);
}

class CountingWatcher final : public StreamWatcher {
 public:
  absl::Status Poll() override { return ++polls, absl::OkStatus(); }
  absl::Status Finished() override { return ++ends, absl::OkStatus(); }
  int polls = 0, ends = 0;
};

class FailingWatcher final : public StreamWatcher {
 public:
  absl::Status Poll() override { return absl::AbortedError("lost"); }
  absl::Status Finished() override { return absl::OkStatus(); }
};

// Others on the same device go on: their next wait is another.
TEST(CudaDeviceTest, AWaitThatFailsEndsForAllWatchers) {
  const auto device = CudaDevice::Open(0);
  ASSERT_TRUE(device.ok()) << device.status();
  CudaDevice* const cuda = *CudaDevice::Of(**device);
  FailingWatcher failing;
  CountingWatcher other;
  cuda->Watch(&failing);
  cuda->Watch(&other);
  GiveToStream(cuda->stream(), [] { std::this_thread::sleep_for(std::chrono::milliseconds(60)); });
  EXPECT_EQ(cuda->Synchronize(), absl::AbortedError("lost"));
  EXPECT_GT(other.polls, 0);
  EXPECT_EQ(other.ends, 1);
  cuda->Unwatch(&failing);
  EXPECT_EQ(cuda->Synchronize(), absl::OkStatus());
  cuda->Unwatch(&other);
}

// They share a piece of pinned memory.
TEST(CudaDeviceTest, ThreadsCopyToTheHostEachTheirOwn) {
  const auto device = CudaDevice::Open(0);
  ASSERT_TRUE(device.ok()) << device.status();
  const auto copies = [&](int own) {
    const auto buffer = (*device)->Allocate(kBytes);
    ASSERT_TRUE(buffer.ok());
    const std::vector<int> given(kCount, own);
    ASSERT_EQ((*device)->CopyFromHost((*buffer)->data(), given.data(), kBytes), absl::OkStatus());
    for (int i = 0; i < 200; ++i) {
      std::vector<int> got(kCount);
      ASSERT_EQ((*device)->CopyToHost(got.data(), (*buffer)->data(), kBytes), absl::OkStatus());
      ASSERT_EQ(got, given);
    }
  };
  std::thread one(copies, 1), two(copies, 2);
  one.join();
  two.join();
}

// Ranks that fetch nothing wait for nothing but these.
TEST(CudaDeviceTest, AWaitForASlotEndsItsWatchersWaitToo) {
  const auto device = CudaDevice::Open(0);
  ASSERT_TRUE(device.ok()) << device.status();
  CudaDevice* const cuda = *CudaDevice::Of(**device);
  const auto buffer = cuda->Allocate(8);
  ASSERT_TRUE(buffer.ok());
  CountingWatcher watcher;
  cuda->Watch(&watcher);
  const auto begin = std::chrono::steady_clock::now();
  GiveToStream(cuda->stream(), [] { std::this_thread::sleep_for(std::chrono::milliseconds(60)); });
  for (int i = 0; i < 9; ++i)
    EXPECT_EQ(cuda->CopyFromHost((*buffer)->data(), &i, 4), absl::OkStatus());
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(watcher.polls, 0);
  EXPECT_LE(watcher.polls, took / std::chrono::milliseconds(1)) << "once a millisecond";
  EXPECT_GT(watcher.ends, 0);
  EXPECT_EQ(cuda->Synchronize(), absl::OkStatus());
  cuda->Unwatch(&watcher);
}

}  // namespace
}  // namespace tprun
