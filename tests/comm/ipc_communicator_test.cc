// The host side of the ipc back end for ranks that are threads, over a CUDA runtime that is faked:
// its kernels run in the threads of the streams.
#include "comm/ipc_communicator.h"

#include <chrono>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/cuda_device.h"
#include "comm/local_communicator.h"
#include "gtest/gtest.h"

namespace tprun {

bool NcclLoads() { return false; }

namespace {

constexpr absl::Duration kTimeout = absl::Seconds(20);
constexpr std::chrono::seconds kAtOnce(5);
constexpr int64_t kCount = 1000;
constexpr int64_t kBytes = kCount * static_cast<int64_t>(sizeof(float));

// A rank's buffer on its device.
class Rank {
 public:
  Rank(Communicator& world, Communicator& comm, CudaDevice& device, Buffer& buffer)
      : world(world), comm(comm), device(device), buffer_(buffer) {}

  absl::Status Fill(float value) {
    const std::vector<float> values(kCount, value);
    return device.CopyFromHost(buffer_.data(), values.data(), kBytes);
  }
  absl::Status Sum() {
    return comm.AllReduceSum(buffer_.data(), buffer_.data(), kCount, DType::kF32);
  }
  absl::Status Holds(float value) {
    std::vector<float> values(kCount);
    RETURN_IF_ERROR(device.CopyToHost(values.data(), buffer_.data(), kBytes));
    if (values == std::vector<float>(kCount, value)) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("wanted ", value, ", found ", values[0]));
  }
  void* data() { return buffer_.data(); }

  Communicator& world;
  Communicator& comm;
  CudaDevice& device;

 private:
  Buffer& buffer_;
};

absl::Status OnTwoRanks(const std::function<absl::Status(Rank&)>& body) {
  return RunLocalRanks(2, kTimeout, [&](Communicator& world) -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, CudaDevice::Open(0));
    ASSIGN_OR_RETURN(CudaDevice* const cuda, CudaDevice::Of(*device));
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer, device->Allocate(kBytes));
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> own, world.Split({0, 1}));
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                     MakeIpcCommunicator(PeerGroup{std::move(own), {0, 1}}, *device, {}));
    Rank rank(world, *comm, *cuda, *buffer);
    return body(rank);
  });
}

// Rank r has r + 1.
TEST(IpcCommunicatorTest, SumsAndPassesMessagesOn) {
  EXPECT_EQ(OnTwoRanks([](Rank& rank) -> absl::Status {
              const int own = rank.comm.rank();
              RETURN_IF_ERROR(rank.Fill(static_cast<float>(own + 1)));
              RETURN_IF_ERROR(rank.Sum());
              RETURN_IF_ERROR(rank.Holds(3));
              for (int i = 0; i < 5; ++i) {
                RETURN_IF_ERROR(own == 0 ? rank.comm.Send(rank.data(), kBytes, 1)
                                         : rank.comm.Receive(rank.data(), kBytes, 0));
              }
              return rank.Holds(3);
            }),
            absl::OkStatus());
}

TEST(IpcCommunicatorTest, ARecordedSumRunsAgain) {
  EXPECT_EQ(OnTwoRanks([](Rank& rank) -> absl::Status {
              RETURN_IF_ERROR(rank.Fill(1));
              ASSIGN_OR_RETURN(const std::unique_ptr<DeviceGraph> graph,
                               rank.device.Capture([&] { return rank.Sum(); }));
              RETURN_IF_ERROR(rank.world.Barrier());
              for (int i = 0; i < 3; ++i) RETURN_IF_ERROR(graph->Launch());
              return rank.Holds(8);
            }),
            absl::OkStatus());
}

// One rank's recording ends before the other's next sum.
TEST(IpcCommunicatorTest, ARecordingThatFailsHoldsUpNobody) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(OnTwoRanks([](Rank& rank) -> absl::Status {
              const absl::Status recorded = rank.device
                                                .Capture([&]() -> absl::Status {
                                                  RETURN_IF_ERROR(rank.Sum());
                                                  if (rank.comm.rank() == 1)
                                                    return absl::ResourceExhaustedError("full");
                                                  return rank.Sum();
                                                })
                                                .status();
              EXPECT_EQ(AgreeOnStatus(rank.world, recorded),
                        absl::ResourceExhaustedError("rank 1: recording a CUDA graph: full"));
              RETURN_IF_ERROR(rank.Fill(2));
              RETURN_IF_ERROR(rank.Sum());
              return rank.Holds(4);
            }),
            absl::OkStatus());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kAtOnce);
}

TEST(IpcCommunicatorTest, ALostRankEndsTheOthersWait) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(OnTwoRanks([](Rank& rank) -> absl::Status {
              std::unique_ptr<DeviceGraph> graph;
              ASSIGN_OR_RETURN(graph, rank.device.Capture([&] { return rank.Sum(); }));
              if (rank.comm.rank() == 1) return absl::NotFoundError("no disk");
              RETURN_IF_ERROR(graph->Launch());
              return rank.device.Synchronize();
            }),
            absl::NotFoundError("rank 1: no disk"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kAtOnce);
}

}  // namespace
}  // namespace tprun
