#include "launcher/measure.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "comm/local_communicator.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/mpi_installations.h"
#include "topology/doctor.h"
#include "topology/format_topology.h"
#include "topology/paths.h"

namespace tprun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

// Two GPUs whose CUDA numbers are the other way round than PCI's.
class FakeProbe : public DeviceProbe {
 public:
  ProbeVersions versions() const override { return {}; }
  absl::StatusOr<std::vector<ProbedGpu>> Gpus() override { return gpus; }
  absl::StatusOr<GpuRates> MeasureGpu(int ordinal) override {
    if (ordinal == fails) return absl::ResourceExhaustedError("no memory is free");
    GpuRates rates;
    rates.memory_bandwidth_bytes_per_s = 100e9 * (ordinal + 1);
    rates.host_to_device_bytes_per_s = 10e9;
    rates.device_to_host_bytes_per_s = 9e9;
    rates.matmul_ops_per_s = {{"bf16", 1e14}};
    return rates;
  }
  absl::StatusOr<PeerRates> MeasurePeer(int from, int to) override {
    if (from == to) return absl::InternalError("itself");
    return from < to ? up : down;
  }

  std::vector<ProbedGpu> gpus = {{0, "00000000:B3:00.0", "fast"}, {1, "0000:65:00.0", "slow"}};
  int fails = -1;
  PeerRates up = {true, true, "", 50e9, 2e-6};
  PeerRates down = {true, true, "", 40e9, 3e-6};
};

Topology Box() {
  Topology box;
  box.hosts.push_back({.name = "box"});
  box.devices.push_back({.id = "cpu"});
  for (const char* bus : {"0000:65:00.0", "0000:b3:00.0"}) {
    DeviceInfo gpu;
    gpu.kind = DeviceKind::kGpu;
    gpu.id = "cuda:" + std::to_string(box.devices.size() - 1);
    gpu.pci_bus_id = bus;
    gpu.memory_bandwidth_bytes_per_s = 936e9;
    box.devices.push_back(gpu);
  }
  Link link;
  link.a = 1;
  link.b = 2;
  link.kind = LinkKind::kPhb;
  link.bandwidth_bytes_per_s = 31.5e9;
  box.links.push_back(link);
  return box;
}

Topology Measured(FakeProbe probe, Topology box = Box()) {
  MeasureGpus(probe, box, [](const std::string&) {});
  return box;
}

TEST(MeasureGpus, KeepsNominalFiguresApart) {
  const Topology box = Measured(FakeProbe());
  EXPECT_EQ(box.devices[1].measured.memory_bandwidth_bytes_per_s, 200e9) << "CUDA's number 1";
  EXPECT_EQ(box.devices[2].measured.memory_bandwidth_bytes_per_s, 100e9);
  EXPECT_EQ(box.devices[1].measured.host_to_device_bytes_per_s, 10e9);
  EXPECT_EQ(box.devices[1].measured.device_to_host_bytes_per_s, 9e9);
  EXPECT_EQ(box.devices[1].measured.matmul_ops_per_s.at("bf16"), 1e14);
  EXPECT_EQ(box.devices[1].memory_bandwidth_bytes_per_s, 936e9);
  ASSERT_EQ(box.links.size(), 1);
  EXPECT_EQ(box.links[0].bandwidth_bytes_per_s, 31.5e9);
  EXPECT_EQ(box.links[0].measured_bandwidth_bytes_per_s, 40e9) << "the slower direction";
  EXPECT_EQ(box.links[0].measured_latency_s, 3e-6);
  EXPECT_EQ(box.links[0].peer_access, PeerAccess::kYes);
  EXPECT_TRUE(box.links[0].peer_access_verified);
  EXPECT_TRUE(box.notes.empty());
}

TEST(MeasureGpus, FindsPeerAccessThatIsBroken) {
  FakeProbe probe;
  probe.down.verified = false;
  probe.down.problem = "12 of 64 words differ";
  Topology box = Box();
  box.links[0].peer_access = PeerAccess::kYes;
  box = Measured(probe, box);
  EXPECT_EQ(box.links[0].peer_access, PeerAccess::kNo);
  EXPECT_FALSE(box.links[0].peer_access_verified);
  EXPECT_EQ(box.links[0].peer_access_reason,
            std::string(kPeerAccessBroken) + "12 of 64 words differ");
}

// A card that corrupts what goes over NVLink: doctor tells, and nothing is planned over it.
TEST(MeasureGpus, ACorruptingPeerIsToldAndKeptOutOfPaths) {
  Topology box = Box();
  box.links[0].kind = LinkKind::kNvlink;
  box.links[0].count = 4;
  box.links[0].bandwidth_bytes_per_s = 56e9;
  for (int gpu : {1, 2}) {
    box.devices[gpu].pcie_generation = 4;
    box.devices[gpu].pcie_width = 16;
  }
  FakeProbe probe;
  const Topology sound = Measured(probe, box);
  EXPECT_EQ(NvlinkIslands(sound).size(), 1);
  EXPECT_EQ(PathBetween(sound, {1, 0}, {2, 0}).kind, LinkKind::kNvlink);
  EXPECT_EQ(PathBetween(sound, {1, 0}, {2, 0}).expected_bytes_per_s, 40e9);

  probe.up.verified = false;
  probe.up.problem = "1 of 64 words differ";
  const Topology broken = Measured(probe, box);
  EXPECT_TRUE(NvlinkIslands(broken).empty());
  const Path path = PathBetween(broken, {1, 0}, {2, 0});
  EXPECT_TRUE(path.through_host);
  EXPECT_EQ(path.peer_access, PeerAccess::kNo);
  EXPECT_LT(path.expected_bytes_per_s, 31.5e9) << "not the 40 GB/s of wrong data";
  EXPECT_THAT(path.why, HasSubstr("1 of 64 words differ"));
  EXPECT_THAT(AllReduceCost(broken, {{1, 0}, {2, 0}}, 1 << 20).algorithm,
              HasSubstr("through the host"));
  EXPECT_THAT(TopologyText(broken, false),
              HasSubstr("no peer access between cuda:0 and cuda:1: broken: 1 of 64"));
  DoctorFacts facts;
  facts.topology = broken;
  std::vector<std::string> problems;
  for (const Finding& finding : Diagnose(facts)) {
    if (finding.severity == Severity::kProblem) problems.push_back(finding.check);
  }
  EXPECT_THAT(problems, ElementsAre("peer-access"));
}

TEST(MeasureGpus, APairThatCannotBeTriedIsNoted) {
  class Unreachable : public FakeProbe {
    absl::StatusOr<PeerRates> MeasurePeer(int, int) override {
      return absl::ResourceExhaustedError("no memory is free");
    }
  };
  Unreachable probe;
  Topology box = Box();
  MeasureGpus(probe, box, [](const std::string&) {});
  EXPECT_THAT(box.notes, Contains(HasSubstr("cuda:0 - cuda:1 was not measured: no memory")));
  EXPECT_FALSE(box.links[0].peer_access_verified);
}

TEST(MeasureGpus, PeerAccessThatIsNotPossible) {
  FakeProbe probe;
  probe.up = probe.down = {false, false, "", 5e9, 20e-6};
  Topology box = Measured(probe);
  EXPECT_EQ(box.links[0].peer_access, PeerAccess::kNo);
  EXPECT_THAT(box.links[0].peer_access_reason, HasSubstr("CUDA offers no"));
  EXPECT_EQ(box.links[0].measured_bandwidth_bytes_per_s, 5e9) << "through the host";
  box.links[0].peer_access_reason = "the driver says: the chipset";
  EXPECT_EQ(Measured(probe, box).links[0].peer_access_reason, "the driver says: the chipset");
}

TEST(MeasureGpus, WhatWasNotMeasuredIsNoted) {
  FakeProbe probe;
  probe.fails = 0;
  const Topology box = Measured(probe);
  EXPECT_EQ(box.devices[2].measured.memory_bandwidth_bytes_per_s, 0);
  EXPECT_THAT(box.notes, Contains(HasSubstr("cuda:1 was not measured: no memory is free")));
  probe.gpus.pop_back();
  EXPECT_THAT(Measured(probe).notes, Contains(HasSubstr("CUDA shows no GPU at 0000:65:00.0")));
}

TEST(MeasureGpus, MakesTheLinkThatIsMissing) {
  Topology box = Box();
  box.links.clear();
  FakeProbe probe;
  VerifyPeerAccess(probe, box);
  ASSERT_EQ(box.links.size(), 1);
  EXPECT_TRUE(box.links[0].peer_access_verified);
}

TEST(MeasureCpuMatmul, IsWithinReason) {
  const std::map<std::string, double> rates = MeasureCpuMatmul(1);
  EXPECT_EQ(rates.size(), 4);
  for (const auto& [format, rate] : rates) {
    EXPECT_GT(rate, 1e8) << format;
    EXPECT_LT(rate, 1e14) << format;
  }
}

TEST(MeasureExchange, OverThreads) {
  const absl::Status status =
      RunLocalRanks(2, absl::Seconds(30), [](Communicator& world) -> absl::Status {
        const absl::StatusOr<RankExchange> result = MeasureExchange(world);
        if (!result.ok()) return result.status();
        EXPECT_GT(result->latency_s, 0);
        EXPECT_LT(result->latency_s, 0.1);
        EXPECT_GT(result->bandwidth_bytes_per_s, 1e6);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(MpiVersionOf, KnowsWhatTheySay) {
  EXPECT_EQ(MpiVersionOf("mpirun (Open MPI) 4.1.4\n\nReport bugs to\n"), "Open MPI 4.1.4");
  EXPECT_EQ(MpiVersionOf("orterun (OpenRTE) 4.1.4\n"), "Open MPI 4.1.4");
  EXPECT_EQ(MpiVersionOf("HYDRA build details:\n    Version:                 4.0.2\n    Release"),
            "MPICH 4.0.2");
  EXPECT_EQ(MpiVersionOf("Intel(R) MPI Library for Linux* OS, Version 2021.9 Build 20230307\n"),
            "Intel MPI 2021.9");
  EXPECT_EQ(MpiVersionOf(""), "");
  EXPECT_EQ(MpiVersionOf("something else 1.0"), "");
}

}  // namespace
}  // namespace tprun
