// Communicators over one GPU that several processes share: NCCL, which takes them for several
// hosts, and peer memory through CUDA IPC. Skipped without a GPU.
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/cuda_module.h"
#include "comm/device_communicator.h"
#include "gtest/gtest.h"
#include "tests/comm/conformance_suite.h"
#include "tests/comm/on_device.h"
#include "tests/comm/process_ranks.h"

namespace tprun {
namespace {

// CUDA must start in the children only: a child tells whether there is a GPU.
absl::Status FindGpu() {
  return RunProcessRanks(1, absl::Seconds(60),
                         [](Communicator&) { return OpenDevice("cuda:0").status(); });
}

// NCCL refuses two ranks on one GPU of one host. With names of their own it takes them for two
// hosts, and exchanges over the loopback network.
void PretendToBeHost(int rank) {
  setenv("NCCL_HOSTID", absl::StrCat("virtual-host-", rank).c_str(), 1);
  setenv("NCCL_NET", "Socket", 1);
  setenv("NCCL_SOCKET_IFNAME", "lo", 1);
  setenv("NCCL_IB_DISABLE", "1", 1);
  setenv("NCCL_MNNVL_ENABLE", "0", 1);
}

using Body = std::function<absl::Status(Communicator&, Device&)>;

// Around the ladder, which rightly refuses NCCL here.
absl::Status RunNccl(absl::Duration timeout, const Body& body) {
  return RunProcessRanks(2, timeout, [&](Communicator& bootstrap) -> absl::Status {
    PretendToBeHost(bootstrap.rank());
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, OpenDevice("cuda:0"));
    ASSIGN_OR_RETURN(const CudaModule* module, LoadCudaModule());
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> own, bootstrap.Split({0, 1}));
    NcclOptions options;
    options.channels = 1;
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm,
                     module->make_nccl(PeerGroup{std::move(own), {0, 1}}, *device, options));
    const std::unique_ptr<Communicator> on_device = OnDevice(std::move(comm), *device);
    RETURN_IF_ERROR(on_device->Barrier());
    return body(*on_device, *device);
  });
}

absl::Status RunIpc(absl::Duration timeout, const Body& body) {
  return RunProcessRanks(2, timeout, [&](Communicator& bootstrap) -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, OpenDevice("cuda:0"));
    DeviceCommunicatorOptions options;
    options.backend = "ipc";
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm,
                     MakeDeviceCommunicator(bootstrap, *device, options));
    const std::unique_ptr<Communicator> on_device = OnDevice(std::move(comm), *device);
    RETURN_IF_ERROR(on_device->Barrier());
    return body(*on_device, *device);
  });
}

// Every step waits for the GPU to turn to the other process: the checks with few steps.
bool IsShort(const ConformanceCheck& check) {
  return check.name != "Subgroups" && check.name != "MessagesKeepOrder" && check.name != "InARow" &&
         check.name != "AllReduce1048576";
}

absl::Status RunShortChecks(Communicator& comm) {
  for (const ConformanceCheck& check : ConformanceChecks()) {
    if (!IsShort(check)) continue;
    // An NcclCommunicator by itself does not split, nor check arguments.
    if (comm.backend() == "nccl" && check.name == "WrongArguments") continue;
    RETURN_IF_ERROR(Annotate(check.run(comm), check.name));
  }
  return absl::OkStatus();
}

class CudaProcessesTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status gpu = FindGpu();
    if (!gpu.ok()) GTEST_SKIP() << gpu;
  }
};

TEST_F(CudaProcessesTest, NcclConforms) {
  const absl::Status status =
      RunNccl(absl::Seconds(90), [](Communicator& comm, Device&) { return RunShortChecks(comm); });
  if (absl::StrContains(status.message(), "NCCL does not load")) GTEST_SKIP() << status;
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(CudaProcessesTest, NcclHearsOfAnAbort) {
  for (const ConformanceCheck& check : AbortChecks()) {
    if (absl::StrContains(check.name, "Split")) continue;
    const absl::Status status =
        RunNccl(absl::Seconds(60), [&](Communicator& comm, Device&) { return check.run(comm); });
    if (absl::StrContains(status.message(), "NCCL does not load")) GTEST_SKIP() << status;
    EXPECT_EQ(status, absl::AbortedError("rank 1: no disk")) << check.name;
  }
}

TEST_F(CudaProcessesTest, IpcConforms) {
  const absl::Status status =
      RunIpc(absl::Seconds(90), [](Communicator& comm, Device&) { return RunShortChecks(comm); });
  // As in many containers.
  for (const char* refusal : {"the driver shares no memory", "operation not supported"}) {
    if (absl::IsFailedPrecondition(status) && absl::StrContains(status.message(), refusal)) {
      GTEST_SKIP() << status;
    }
  }
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
