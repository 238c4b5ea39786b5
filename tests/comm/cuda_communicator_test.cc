// Communicators over GPUs: the conformance suite over every back end that this machine's GPUs can
// do. Ranks are threads; on one GPU they are virtual ranks. Skipped without a GPU.
#include <atomic>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "comm/all_reduce_benchmark.h"
#include "comm/device_communicator.h"
#include "comm/local_communicator.h"
#include "gtest/gtest.h"
#include "tests/comm/conformance_suite.h"
#include "tests/comm/on_device.h"

namespace tprun {
namespace {

using Body = std::function<absl::Status(Communicator&, Device&)>;

// A group of ranks with the devices `devices`, over the back end `backend`.
struct Layout {
  std::string backend;
  std::vector<std::string> devices;

  bool meet_on_host = true;  // see IpcOptions

  std::string Name() const {
    return absl::StrCat(backend, " over ", absl::StrJoin(devices, ","),
                        meet_on_host ? "" : " without meeting");
  }
};

absl::Status RunOver(const Layout& layout, absl::Duration timeout, const Body& body) {
  return RunLocalRanks(static_cast<int>(layout.devices.size()), timeout,
                       [&](Communicator& bootstrap) -> absl::Status {
                         ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                                          OpenDevice(layout.devices[bootstrap.rank()]));
                         DeviceCommunicatorOptions options;
                         options.backend = layout.backend;
                         options.ipc.meet_on_host = layout.meet_on_host;
                         ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                                          MakeDeviceCommunicator(bootstrap, *device, options));
                         return body(*comm, *device);
                       });
}

absl::Status RunCheck(const Layout& layout, absl::Duration timeout, const ConformanceCheck& check) {
  return RunOver(layout, timeout, [&](Communicator& comm, Device& device) -> absl::Status {
    std::vector<int> everyone;
    for (int r = 0; r < comm.size(); ++r) everyone.push_back(r);
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> own, comm.Split(everyone));
    const std::unique_ptr<Communicator> on_device = OnDevice(std::move(own), device);
    RETURN_IF_ERROR(on_device->Barrier());
    return Annotate(check.run(*on_device), check.name);
  });
}

class CudaCommunicatorTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status status = OpenDevice("cuda:0").status();
    if (!status.ok()) GTEST_SKIP() << status;
    has_two_ = OpenDevice("cuda:1").ok();
  }

  // All that this machine can do.
  std::vector<Layout> Layouts() const {
    const std::string gpu = "cuda:0";
    std::vector<Layout> layouts = {
        {"auto", {gpu}},
        {"ipc", {gpu, gpu}},
        {"ipc", {gpu, gpu, gpu}},
        {"ipc", {gpu, gpu, gpu, gpu, gpu}},
        {"auto", {gpu, gpu}},
        {"host", {gpu, gpu}},
        {"host", {gpu, gpu, gpu}},
        {"auto", {gpu, "cpu"}},
        {"auto", {"cpu", gpu, gpu}},
        // The waits of the kernels themselves: these checks launch nothing else for the first time.
        {"ipc", {gpu, gpu, gpu}, /*meet_on_host=*/false},
    };
    if (has_two_) {
      for (const char* backend : {"auto", "nccl", "ipc", "host"}) {
        layouts.push_back({backend, {"cuda:0", "cuda:1"}});
      }
    }
    return layouts;
  }

  bool has_two_ = false;
};

TEST_F(CudaCommunicatorTest, Conforms) {
  for (const Layout& layout : Layouts()) {
    for (const ConformanceCheck& check : ConformanceChecks()) {
      const absl::Status status = RunCheck(layout, absl::Seconds(60), check);
      EXPECT_TRUE(status.ok()) << layout.Name() << ": " << status;
    }
  }
}

TEST_F(CudaCommunicatorTest, HearsOfAnAbort) {
  for (const Layout& layout : Layouts()) {
    const int ranks = static_cast<int>(layout.devices.size());
    for (const ConformanceCheck& check : AbortChecks()) {
      if (ranks < 2) continue;
      const absl::Status status = RunCheck(layout, absl::Seconds(60), check);
      EXPECT_EQ(status, absl::AbortedError(absl::StrCat("rank ", ranks - 1, ": no disk")))
          << layout.Name() << ": " << check.name;
    }
  }
}

TEST_F(CudaCommunicatorTest, EndsAtTheDeadline) {
  for (const Layout& layout : Layouts()) {
    if (layout.devices.size() < 2) continue;
    const absl::Status status = RunCheck(layout, absl::Seconds(3), DeadlineCheck());
    EXPECT_TRUE(status.ok()) << layout.Name() << ": " << status;
  }
}

TEST_F(CudaCommunicatorTest, TheLadderSaysWhatItTook) {
  const auto description = [](const Layout& layout) {
    std::string text;
    const absl::Status status =
        RunOver(layout, absl::Seconds(30), [&](Communicator& comm, Device&) {
          if (comm.rank() == 0) text = comm.description();
          return comm.Barrier();
        });
    return status.ok() ? text : status.ToString();
  };
  EXPECT_TRUE(absl::StrContains(description({"auto", {"cuda:0", "cuda:0"}}), "ipc over 2 ranks"))
      << description({"auto", {"cuda:0", "cuda:0"}});
  EXPECT_TRUE(absl::StrContains(description({"auto", {"cuda:0", "cpu"}}), "host over 2 ranks"));
  const std::string refused = description({"nccl", {"cuda:0", "cuda:0"}});
  EXPECT_TRUE(absl::StrContains(refused, "share a GPU")) << refused;
}

// Recorded operations run again and again, in step with others that are not recorded.
absl::Status Replay(Communicator& comm, Device& device) {
  if (!comm.capturable()) return absl::InternalError("not capturable: " + comm.description());
  constexpr int64_t kCount = 4099;
  ASSIGN_OR_RETURN(const auto x, device.Allocate(kCount * 4));
  ASSIGN_OR_RETURN(const auto gathered, device.Allocate(comm.size() * 8 * 4));
  auto* const values = static_cast<float*>(x->data());
  const std::vector<int64_t> counts(comm.size(), 8);
  const auto step = [&]() -> absl::Status {
    RETURN_IF_ERROR(comm.AllReduceSum(values, values, kCount, DType::kF32));
    return comm.AllGather(values, gathered->data(), counts, DType::kF32);
  };
  std::vector<float> host(kCount, 1.0f);
  RETURN_IF_ERROR(comm.Barrier());
  RETURN_IF_ERROR(step());  // a back end may set itself up in its first operation
  RETURN_IF_ERROR(device.CopyFromHost(values, host.data(), kCount * 4));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceGraph> graph, device.Capture(step));
  RETURN_IF_ERROR(comm.Barrier());
  float wanted = 1;
  for (int round = 0; round < 12; ++round) {
    RETURN_IF_ERROR(round % 4 == 3 ? step() : graph->Launch());
    wanted *= static_cast<float>(comm.size());
  }
  RETURN_IF_ERROR(device.CopyToHost(host.data(), values, kCount * 4));
  for (float value : host) {
    if (value != wanted) return absl::InternalError(absl::StrCat(value, ", wanted ", wanted));
  }
  std::vector<float> all(comm.size() * 8);
  RETURN_IF_ERROR(device.CopyToHost(all.data(), gathered->data(), gathered->size()));
  for (float value : all) {
    if (value != wanted) return absl::InternalError(absl::StrCat("gathered ", value));
  }
  return comm.Barrier();
}

TEST_F(CudaCommunicatorTest, GraphsReplay) {
  for (const Layout& layout : Layouts()) {
    const bool mixed = absl::StrContains(layout.Name(), "cpu");
    if (mixed || (layout.backend == "host" && layout.devices.size() > 1)) continue;
    const absl::Status status = RunOver(layout, absl::Seconds(60), Replay);
    EXPECT_TRUE(status.ok()) << layout.Name() << ": " << status;
  }
}

// Printed for the record; the only bound is that it ends.
TEST_F(CudaCommunicatorTest, AllReduceTimes) {
  for (const Layout& layout : Layouts()) {
    if (layout.devices.size() < 2 || absl::StrContains(layout.Name(), "cpu")) continue;
    const absl::Status status =
        RunOver(layout, absl::Seconds(60), [&](Communicator& comm, Device& device) -> absl::Status {
          for (int64_t bytes : {4096, 16384, 65536, 1 << 20}) {
            ASSIGN_OR_RETURN(const AllReduceTimings times,
                             MeasureDeviceAllReduce(comm, device, bytes, 200));
            if (comm.rank() > 0) continue;
            std::printf("all-reduce %s: %ld B p50 %.1f us p99 %.1f us, in a graph %.1f us\n",
                        layout.Name().c_str(), static_cast<long>(bytes), times.p50_s * 1e6,
                        times.p99_s * 1e6, times.in_graph_s * 1e6);
          }
          return comm.Barrier();
        });
    EXPECT_TRUE(status.ok()) << layout.Name() << ": " << status;
  }
}

}  // namespace
}  // namespace tprun
