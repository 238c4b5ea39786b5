#include "comm/host_communicator.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/device_communicator.h"
#include "comm/local_communicator.h"
#include "gtest/gtest.h"
#include "tests/comm/conformance_suite.h"
#include "tests/comm/fake_device.h"
#include "tests/comm/on_device.h"

namespace tprun {
namespace {

// Runs `check` on ranks of which every one in `cpu_ranks` has a CPU and the others a device that
// the host cannot reach.
absl::Status RunOver(int ranks, const std::vector<int>& cpu_ranks, absl::Duration timeout,
                     const ConformanceCheck& check) {
  return RunLocalRanks(ranks, timeout, [&](Communicator& bootstrap) -> absl::Status {
    const bool cpu =
        std::find(cpu_ranks.begin(), cpu_ranks.end(), bootstrap.rank()) != cpu_ranks.end();
    const std::unique_ptr<Device> device = cpu ? MakeCpuDevice() : MakeFakeDevice();
    DeviceCommunicatorOptions options;
    options.backend = "host";
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm,
                     MakeDeviceCommunicator(bootstrap, *device, options));
    const bool only_cpus = cpu_ranks.size() == static_cast<size_t>(ranks);
    if (comm->backend() != "host") return absl::InternalError(std::string(comm->backend()));
    if (!absl::StrContains(comm->description(), only_cpus ? "local over" : "host over")) {
      return absl::InternalError(comm->description());
    }
    const std::unique_ptr<Communicator> on_device = OnDevice(std::move(comm), *device);
    return Annotate(check.run(*on_device), check.name);
  });
}

TEST(HostCommunicatorTest, Conforms) {
  const std::vector<std::pair<int, std::vector<int>>> groups = {
      {1, {}}, {2, {}}, {3, {1}}, {4, {2, 3}}, {2, {0, 1}}};
  for (const auto& [ranks, cpus] : groups) {
    for (const ConformanceCheck& check : ConformanceChecks()) {
      const absl::Status status = RunOver(ranks, cpus, absl::Seconds(60), check);
      EXPECT_TRUE(status.ok()) << ranks << " ranks, " << cpus.size() << " of them CPUs: " << status;
    }
  }
}

TEST(HostCommunicatorTest, HearsOfAnAbort) {
  for (const ConformanceCheck& check : AbortChecks()) {
    const absl::Status status = RunOver(3, {1}, absl::Seconds(60), check);
    EXPECT_EQ(status, absl::AbortedError("rank 2: no disk")) << check.name;
  }
}

TEST(HostCommunicatorTest, EndsAtTheDeadline) {
  const absl::Status status = RunOver(2, {}, absl::Milliseconds(200), DeadlineCheck());
  EXPECT_TRUE(status.ok()) << status;
}

TEST(DeviceCommunicatorTest, WrongNamesAndImpossibleBackendsAreRefusedOnAllRanks) {
  const absl::Status status = RunLocalRanks(2, absl::Seconds(10), [](Communicator& bootstrap) {
    const std::unique_ptr<Device> device = MakeCpuDevice();
    DeviceCommunicatorOptions options;
    options.backend = "carrier pigeon";
    const absl::Status unknown = MakeDeviceCommunicator(bootstrap, *device, options).status();
    if (!absl::IsInvalidArgument(unknown)) return absl::InternalError(unknown.ToString());
    const std::unique_ptr<Device> fake = MakeFakeDevice();
    options.backend = "auto";  // nothing can tell what this device is
    const absl::Status strange = MakeDeviceCommunicator(bootstrap, *fake, options).status();
    return strange.ok() ? absl::InternalError("wanted an error") : absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
