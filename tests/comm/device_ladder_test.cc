#include "comm/device_ladder.h"

#include "absl/strings/match.h"
#include "comm/ipc_channels.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

PeerIdentity Gpu(int host, int process, int gpu, bool nccl = true) {
  PeerIdentity identity;
  identity.host = host;
  identity.process = process;
  identity.gpu[0] = static_cast<uint8_t>(gpu);
  identity.is_gpu = 1;
  identity.has_nccl = nccl;
  return identity;
}

std::string Auto(const std::vector<PeerIdentity>& ranks) {
  const LadderChoice choice = ChooseLadder(ranks, "auto").value();
  if (choice.direct) return "direct";
  return choice.ipc && choice.nccl ? "ipc nccl"
         : choice.ipc              ? "ipc"
         : choice.nccl             ? "nccl"
                                   : "host";
}

TEST(DeviceLadderTest, AutoTakesTheBestThatCanBe) {
  const PeerIdentity cpu;
  EXPECT_EQ(Auto({cpu, cpu}), "direct");
  EXPECT_EQ(Auto({cpu, Gpu(1, 1, 0)}), "host") << "mixed";
  EXPECT_EQ(Auto({Gpu(1, 1, 0)}), "host") << "nobody to talk to";
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(1, 1, 1)}), "ipc nccl") << "ranks as threads";
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(1, 2, 1)}), "ipc nccl") << "ranks as processes";
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(1, 2, 1, false)}), "ipc") << "one lacks NCCL";
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(2, 1, 0)}), "nccl") << "two hosts, each with its GPU 0";
  EXPECT_EQ(Auto({Gpu(1, 1, 0, false), Gpu(2, 1, 0, false)}), "host");
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(1, 1, 0)}), "ipc") << "virtual ranks as threads";
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(1, 2, 0)}), "host") << "virtual ranks as processes";
  EXPECT_EQ(Auto({Gpu(1, 1, 0), Gpu(1, 1, 0), Gpu(1, 1, 1)}), "ipc");
  EXPECT_EQ(Auto(std::vector<PeerIdentity>(17, Gpu(1, 1, 0))), "host") << "too many for slabs";
}

TEST(DeviceLadderTest, ChannelsOfThreadsOnOneGpuFitItTogether) {
  const auto channels = [](const std::vector<IpcPlace>& places) {
    return ChannelsThatFit(places, /*channels=*/16);
  };
  // Two blocks of 512 threads to a multiprocessor.
  const IpcPlace small = {Gpu(1, 1, 0), 2 * 20}, large = {Gpu(1, 1, 1), 2 * 132};
  EXPECT_EQ(channels({large, large, large, large}), 16);
  EXPECT_EQ(channels({small, small}), 10);
  EXPECT_EQ(channels({small, small, small, small}), 5);
  EXPECT_EQ(channels(std::vector<IpcPlace>(16, small)), 1);
  EXPECT_EQ(channels(std::vector<IpcPlace>(16, {Gpu(1, 1, 0), 2})), 1) << "never none";
  EXPECT_EQ(channels({large, small}), 16) << "a GPU each";
  EXPECT_EQ(channels({large, large, small, small, small}), 6) << "the least of all GPUs";
  EXPECT_EQ(channels({small, {Gpu(1, 2, 0), 2 * 20}}), 16) << "processes";
}

TEST(DeviceLadderTest, WhatIsAskedForIsTakenOrRefused) {
  const std::vector<PeerIdentity> shared = {Gpu(1, 1, 0), Gpu(1, 2, 0)};
  EXPECT_TRUE(ChooseLadder(shared, "ipc")->ipc);
  EXPECT_FALSE(ChooseLadder(shared, "host")->ipc);
  const absl::Status nccl = ChooseLadder(shared, "nccl").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(nccl)) << nccl;
  EXPECT_TRUE(absl::StrContains(nccl.message(), "share a GPU")) << nccl;
  const absl::Status far = ChooseLadder({Gpu(1, 1, 0), Gpu(2, 1, 0)}, "ipc").status();
  EXPECT_TRUE(absl::StrContains(far.message(), "several hosts")) << far;
  const absl::Status mixed = ChooseLadder({PeerIdentity(), Gpu(1, 1, 0)}, "nccl").status();
  EXPECT_TRUE(absl::StrContains(mixed.message(), "no GPU")) << mixed;
  EXPECT_TRUE(absl::IsInvalidArgument(ChooseLadder(shared, "mpi").status()));
  // Groups of one rank, or of CPUs only, have nothing to choose.
  EXPECT_TRUE(ChooseLadder({Gpu(1, 1, 0)}, "nccl").ok());
  EXPECT_TRUE(ChooseLadder({PeerIdentity(), PeerIdentity()}, "ipc")->direct);
}

TEST(DeviceLadderTest, TheReasonIsTold) {
  EXPECT_TRUE(
      absl::StrContains(ChooseLadder({Gpu(1, 1, 0), Gpu(1, 2, 0)}, "auto")->reason, "take turns"));
  EXPECT_TRUE(absl::StrContains(ChooseLadder({Gpu(1, 1, 0), Gpu(1, 2, 1, false)}, "auto")->reason,
                                "libnccl"));
}

}  // namespace
}  // namespace tprun
