// Memory that ranks of several processes share, over a CUDA runtime that is faked.
#include "comm/peer_memory.h"

#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/cuda_device.h"
#include "comm/local_communicator.h"
#include "gtest/gtest.h"
#include "tests/comm/fake_cuda_runtime.h"
#include "tests/comm/process_ranks.h"

namespace tprun {

bool NcclLoads() { return false; }

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int64_t kBytes = 1001;
constexpr char kMark = 42;

// The memory that `body` makes of a group of all ranks.
absl::Status Shared(Communicator& world,
                    const std::function<absl::Status(std::unique_ptr<PeerMemory>)>& body) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, CudaDevice::Open(0));
  ASSIGN_OR_RETURN(CudaDevice* const cuda, CudaDevice::Of(*device));
  PeerGroup group;
  std::vector<int> everyone;
  for (int r = 0; r < world.size(); ++r) everyone.push_back(r);
  ASSIGN_OR_RETURN(group.bootstrap, world.Split(everyone));
  group.world_ranks = everyone;
  ASSIGN_OR_RETURN(std::unique_ptr<PeerMemory> memory, PeerMemory::Share(group, *cuda, kBytes));
  return body(std::move(memory));
}

// Milliseconds until the memory was let go of.
int64_t TimeToLeave(std::unique_ptr<PeerMemory> memory) {
  const auto begin = Clock::now();
  memory.reset();
  return (Clock::now() - begin) / milliseconds(1);
}

TEST(PeerMemory, LivesUntilOtherProcessesHaveLetGoOfIt) {
  const absl::Status status =
      RunProcessRanks(3, absl::Seconds(30), [](Communicator& world) -> absl::Status {
        return Shared(world, [&](std::unique_ptr<PeerMemory> memory) -> absl::Status {
          if (memory->threads_share_process()) return absl::InternalError("processes, not threads");
          RETURN_IF_ERROR(world.Barrier());
          if (world.rank() == 1) {
            std::this_thread::sleep_for(milliseconds(200));
            memory->slabs()[0][kBytes - 1] = kMark;  // the last that this rank has to say
            memory.reset();
            return world.Barrier();
          }
          const int64_t waited = TimeToLeave(std::move(memory));
          RETURN_IF_ERROR(world.Barrier());
          if (waited >= 150 && waited < 950) return absl::OkStatus();
          return absl::InternalError(absl::StrCat("left after ", waited, " ms"));
        });
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(PeerMemory, DoesNotWaitForOneThatStaysForLong) {
  const absl::Status status =
      RunProcessRanks(2, absl::Seconds(30), [](Communicator& world) -> absl::Status {
        return Shared(world, [&](std::unique_ptr<PeerMemory> memory) -> absl::Status {
          RETURN_IF_ERROR(world.Barrier());
          if (world.rank() == 1) return world.Barrier();  // with its memory
          const int64_t waited = TimeToLeave(std::move(memory));
          RETURN_IF_ERROR(world.Barrier());
          if (waited >= 900 && waited < 5000) return absl::OkStatus();
          return absl::InternalError(absl::StrCat("left after ", waited, " ms"));
        });
      });
  EXPECT_TRUE(status.ok()) << status;
}

// Rank 1 cannot open the others' memory, and rank 2 takes its time to close what it has opened.
TEST(PeerMemory, IsNotFreedWhileOthersHaveItWhereOneCannotOpenIt) {
  const absl::Status status =
      RunProcessRanks(3, absl::Seconds(30), [](Communicator& world) -> absl::Status {
        if (world.rank() == 1) FailToOpenMemory();
        if (world.rank() == 2) CloseMemoryLate(100);
        const absl::Status shared = Shared(world, [](std::unique_ptr<PeerMemory>) -> absl::Status {
          return absl::InternalError("rank 1 cannot have it");
        });
        RETURN_IF_ERROR(world.Barrier());
        if (FreedWhileOpen()) return absl::InternalError("freed while another had it open");
        return shared;
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

// Threads have each other's memory as long as they want it, and none waits.
TEST(PeerMemory, OfThreadsIsSharedByThem) {
  const absl::Status status =
      RunLocalRanks(2, absl::Seconds(30), [](Communicator& world) -> absl::Status {
        return Shared(world, [&](std::unique_ptr<PeerMemory> memory) -> absl::Status {
          if (!memory->threads_share_process())
            return absl::InternalError("threads, not processes");
          RETURN_IF_ERROR(world.Barrier());
          if (world.rank() == 0) memory.reset();
          RETURN_IF_ERROR(world.Barrier());
          if (world.rank() == 1) memory->slabs()[0][kBytes - 1] = kMark;
          return absl::OkStatus();
        });
      });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
