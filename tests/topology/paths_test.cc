#include "topology/paths.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "topology/path_model.h"
#include "topology/pcie.h"
#include "topology/synthetic.h"

namespace tprun {
namespace {

using testing::HasSubstr;

Topology Machine(const std::string& line) {
  const auto catalogue = GpuCatalogue::ReadDefault();
  EXPECT_TRUE(catalogue.ok()) << catalogue.status();
  auto topology = ParseSynthetic(line, *catalogue);
  EXPECT_TRUE(topology.ok()) << topology.status();
  return *std::move(topology);
}

// GPUs of one host; their CPU is device 0.
std::vector<DeviceRef> Gpus(const Topology& topology, int instance = 0) {
  std::vector<DeviceRef> gpus;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    if (topology.devices[i].kind == DeviceKind::kGpu) {
      gpus.push_back({.device = static_cast<int>(i), .instance = instance});
    }
  }
  return gpus;
}

std::vector<DeviceRef> Everywhere(const Topology& topology) {
  std::vector<DeviceRef> gpus;
  for (const DeviceRef& ref : AllDeviceRefs(topology)) {
    if (topology.devices[ref.device].kind == DeviceKind::kGpu) gpus.push_back(ref);
  }
  return gpus;
}

std::string Islands(const Topology& topology) {
  std::string text;
  for (const auto& island : NvlinkIslands(topology)) {
    text += "{";
    for (const DeviceRef& ref : island) text += DeviceId(topology, ref).substr(5);
    text += "}";
  }
  return text;
}

TEST(PathBetween, CardsOnPcieMeetAtTheNarrowSlot) {
  const Topology box = Machine("a6000+a6000:pcie4x4 cpu:16c,64GiB,100GB/s");
  const Path path = PathBetween(box, {1}, {2});
  EXPECT_EQ(path.kind, LinkKind::kPcie);
  EXPECT_NEAR(path.bandwidth_bytes_per_s, 7.88e9, 0.01e9);
  EXPECT_NEAR(PathBetween(box, {0}, {1}).bandwidth_bytes_per_s, 31.5e9, 0.1e9);
  EXPECT_NEAR(PathBetween(box, {0}, {2}).bandwidth_bytes_per_s, 7.88e9, 0.01e9);
  EXPECT_EQ(PathBetween(box, {2}, {1}).bandwidth_bytes_per_s, path.bandwidth_bytes_per_s);
}

TEST(PathBetween, AnUnknownWayIsZero) {
  Topology box = Machine("a6000+a6000");
  box.links.clear();
  for (DeviceInfo& device : box.devices) device.pcie_generation = device.pcie_width = 0;
  EXPECT_EQ(PathBetween(box, {1}, {2}).bandwidth_bytes_per_s, 0);
  const Topology islands = Machine("2x[rtx3090] ib:100");
  Topology apart = islands;
  apart.fabrics.clear();
  EXPECT_EQ(PathBetween(apart, {1, 0}, {1, 1}).bandwidth_bytes_per_s, 0);
  EXPECT_TRUE(std::isinf(AllReduceCost(apart, {{1, 0}, {1, 1}}, 1024).seconds));
}

TEST(PathBetween, ADeviceReachesItself) {
  const Topology box = Machine("h100");
  EXPECT_EQ(PathBetween(box, {1}, {1}).bandwidth_bytes_per_s, 3352e9 / 2);
}

TEST(PathBetween, PeerAccessNeedsASwitchAndADriver) {
  // Behind one switch: direct.
  Path path = PathBetween(Machine("4xa6000 switch:2"), {1}, {2});
  EXPECT_EQ(path.kind, LinkKind::kPix);
  EXPECT_EQ(path.peer_access, PeerAccess::kYes);
  EXPECT_FALSE(path.through_host);
  // Under two root ports: not known, and NCCL does not use it.
  path = PathBetween(Machine("4xa6000 switch:2"), {1}, {3});
  EXPECT_EQ(path.kind, LinkKind::kPhb);
  EXPECT_EQ(path.peer_access, PeerAccess::kUnknown);
  EXPECT_TRUE(path.through_host);
  EXPECT_THAT(path.why, HasSubstr("NCCL_P2P_LEVEL"));
  // The driver of a GeForce of this age offers none even there.
  path = PathBetween(Machine("2xrtx4090 switch:2"), {1}, {2});
  EXPECT_EQ(path.peer_access, PeerAccess::kNo);
  EXPECT_TRUE(path.through_host);
  EXPECT_THAT(path.why, HasSubstr("RTX 4090"));
  // What a probe found goes before what is common.
  Topology probed = Machine("2xa6000");
  for (Link& link : probed.links) {
    if (link.a != 1) continue;
    link.peer_access = PeerAccess::kNo;
    link.peer_access_reason = "ACS at 0000:40:01.0";
  }
  EXPECT_THAT(PathBetween(probed, {1}, {2}).why, HasSubstr("ACS"));
}

TEST(PathBetween, AnAmdHostOfTwoCardsUsesPeerAccessFurther) {
  Topology box = Machine("2xa6000");
  EXPECT_TRUE(PathBetween(box, {1}, {2}).through_host);
  box.devices[0].name = "AMD EPYC 7302P 16-Core Processor";
  EXPECT_FALSE(PathBetween(box, {1}, {2}).through_host);
  EXPECT_EQ(PathBetween(box, {1}, {2}).peer_access, PeerAccess::kUnknown);
}

TEST(PathBetween, TheSocketIsANarrowPart) {
  Topology box = Machine("2xa100pcie numa:2");
  box.devices[0].name = "Intel(R) Xeon(R) Gold 6240 CPU @ 2.60GHz";
  const Path path = PathBetween(box, {1}, {2});
  EXPECT_EQ(path.kind, LinkKind::kSystem);
  EXPECT_EQ(path.bandwidth_bytes_per_s, 10e9);
  EXPECT_EQ(path.expected_bytes_per_s, 10e9);
}

TEST(PathBetween, NodesOfOneSocketHaveNoSocketBetweenThem) {
  Topology box = Machine("2xa100pcie numa:2");
  box.devices[0].name = "Intel(R) Xeon(R) Gold 6240 CPU @ 2.60GHz";
  box.hosts[0].numa_nodes = {{.id = 0, .package = 0}, {.id = 1, .package = 1}};
  EXPECT_EQ(PathBetween(box, {1}, {2}).bandwidth_bytes_per_s, 10e9);
  box.hosts[0].numa_nodes[1].package = 0;
  const Path path = PathBetween(box, {1}, {2});
  EXPECT_EQ(path.kind, LinkKind::kSystem) << "as NVIDIA's tools call it";
  EXPECT_NEAR(path.bandwidth_bytes_per_s, 31.5e9, 0.1e9) << "the slots are what is narrow";
  EXPECT_GT(path.expected_bytes_per_s, 10e9);
}

TEST(PathBetween, WhatIsSaidNotToWorkGoesBeforeALinkOfTheSameKind) {
  Topology box = Machine("2xrtx3090 nvlink-pairs");
  Link broken = {.a = 1, .b = 2, .kind = LinkKind::kNvlink};
  broken.peer_access = PeerAccess::kNo;
  box.links.push_back(broken);
  EXPECT_NE(PathBetween(box, {1}, {2}).kind, LinkKind::kNvlink);
  EXPECT_TRUE(NvlinkIslands(box).empty());
  broken.kind = LinkKind::kPcie;
  box.links.back() = broken;
  EXPECT_EQ(PathBetween(box, {1}, {2}).kind, LinkKind::kNvlink) << "over PCIe alone";
}

TEST(PathBetween, MeasuredGoesBeforeNominal) {
  Topology box = Machine("2xrtx3090 nvlink-pairs");
  for (Link& link : box.links) {
    if (link.kind == LinkKind::kNvlink) {
      link.measured_bandwidth_bytes_per_s = 52e9;
      link.measured_latency_s = 1.5e-6;
    }
  }
  const Path path = PathBetween(box, {1}, {2});
  EXPECT_EQ(path.bandwidth_bytes_per_s, 56.25e9);
  EXPECT_EQ(path.expected_bytes_per_s, 52e9);
  EXPECT_EQ(path.latency_s, 1.5e-6);
}

TEST(PathBetween, OverFabricsAndOneNicAtATime) {
  const Topology nodes = Machine("3x[8xh100 nvswitch] ib:400x8@3us eth:25");
  const DeviceRef a = *LocateDevice(nodes, "node0/cuda:0");
  const DeviceRef b = *LocateDevice(nodes, "node2/cuda:5");
  const Path path = PathBetween(nodes, a, b);
  EXPECT_EQ(path.kind, LinkKind::kNetwork);
  EXPECT_EQ(path.bandwidth_bytes_per_s, 50e9);
  EXPECT_DOUBLE_EQ(path.latency_s, 3e-6);
  EXPECT_THAT(path.why, HasSubstr("ib"));
  EXPECT_EQ(PathBetween(nodes, a, {b.device, 0}).kind, LinkKind::kNvlink);
  // A slot of four lanes is narrower than the network.
  const Topology slow = Machine("2x[rtx3090:pcie3x4] ib:400");
  EXPECT_EQ(PathBetween(slow, {1, 0}, {1, 1}).bandwidth_bytes_per_s, PcieBandwidth(3, 4));
  EXPECT_EQ(PathBetween(slow, {1, 0}, {1, 1}).expected_bytes_per_s, 0.76 * PcieBandwidth(3, 4));
}

TEST(NvlinkIslands, BridgedPairOfThreeCards) {
  EXPECT_EQ(Islands(Machine("3xrtx3090 nvlink-pairs")), "{01}");
  EXPECT_EQ(Islands(Machine("2xrtx3090")), "");
  EXPECT_EQ(Islands(Machine("4xrtx3090 nvlink-pairs")), "{01}{23}");
}

TEST(NvlinkIslands, CubeMeshIsTwoQuads) {
  EXPECT_EQ(Islands(Machine("8xv100 cube-mesh")), "{0123}{4567}");
}

TEST(NvlinkIslands, NvSwitchIsOne) {
  EXPECT_EQ(NvlinkIslands(Machine("16xv100 nvswitch"))[0].size(), 16);
  EXPECT_EQ(NvlinkIslands(Machine("2x[8xh200 nvswitch] ib:400"))[0].size(), 8);
}

TEST(NvlinkIslands, SwitchesBetweenHostsJoinThem) {
  Topology rack = Machine("18x[4xgb200 nvswitch] ib:400");
  rack.fabrics.push_back({.name = "nvlink",
                          .kind = LinkKind::kNvlink,
                          .hosts = {0},
                          .bandwidth_bytes_per_s = 3600e9,
                          .nics_per_host = 4});
  ASSERT_EQ(NvlinkIslands(rack).size(), 1);
  EXPECT_EQ(NvlinkIslands(rack)[0].size(), 72);
  const Path path = PathBetween(rack, {1, 0}, {2, 17});
  EXPECT_EQ(path.kind, LinkKind::kNvlink);
  EXPECT_EQ(path.bandwidth_bytes_per_s, 900e9);
  EXPECT_EQ(path.peer_access, PeerAccess::kYes);
}

TEST(NvlinkIslands, AHostileFileEnds) {
  // The worst case of the search: groups of three without links among themselves.
  Topology box = Machine("63xv100");
  for (int i = 1; i <= 63; ++i) {
    for (int j = i + 1; j <= 63; ++j) {
      if ((i - 1) / 3 != (j - 1) / 3) {
        box.links.push_back({.a = i, .b = j, .kind = LinkKind::kNvlink});
      }
    }
  }
  EXPECT_EQ(NvlinkIslands(box)[0].size(), 21);
}

// Slowest hop and sum of latencies of a ring.
std::pair<double, double> RingValue(const Topology& topology, const std::vector<DeviceRef>& ring) {
  const PathFinder finder(topology);
  std::pair<double, double> value = {std::numeric_limits<double>::infinity(), 0};
  for (size_t i = 0; i < ring.size(); ++i) {
    const Path path = finder.Between(ring[i], ring[(i + 1) % ring.size()]);
    value.first = std::min(value.first, path.expected_bytes_per_s);
    value.second += path.latency_s;
  }
  return value;
}

TEST(BestRing, IsTheBestOfAllOrders) {
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    const int count = 4 + round % 5;
    Topology box = Machine(std::to_string(count) + "xv100");
    for (Link& link : box.links) {
      if (link.a == 0) continue;
      link.kind = LinkKind::kNvlink;
      link.bandwidth_bytes_per_s = 1e9 * (1 + random() % 5);
      link.latency_s = 1e-6 * (1 + random() % 4);
    }
    std::vector<DeviceRef> order = Gpus(box);
    const std::pair<double, double> found = RingValue(box, BestRing(box, order));
    std::pair<double, double> best = {0, 0};
    const auto less = [](DeviceRef a, DeviceRef b) { return a.device < b.device; };
    do {
      const auto value = RingValue(box, order);
      if (value.first > best.first || (value.first == best.first && value.second < best.second)) {
        best = value;
      }
    } while (std::next_permutation(order.begin() + 1, order.end(), less));
    EXPECT_EQ(found.first, best.first) << round;
    EXPECT_NEAR(found.second, best.second, 1e-12) << round;
  }
}

TEST(BestRing, CubeMeshHasARingOfNvlinkOnly) {
  const Topology dgx1 = Machine("8xv100 cube-mesh numa:2");
  const std::vector<DeviceRef> ring = BestRing(dgx1, Gpus(dgx1));
  for (size_t i = 0; i < ring.size(); ++i) {
    EXPECT_EQ(PathBetween(dgx1, ring[i], ring[(i + 1) % 8]).kind, LinkKind::kNvlink);
  }
}

TEST(BestRing, KeepsHostsTogetherInLargeGroups) {
  const Topology nodes = Machine("4x[8xh100 nvswitch] ib:400x8");
  std::vector<DeviceRef> group = Everywhere(nodes);
  std::shuffle(group.begin(), group.end(), std::mt19937(3));
  const std::vector<DeviceRef> ring = BestRing(nodes, group);
  int crossings = 0;
  for (size_t i = 0; i < ring.size(); ++i) {
    crossings += ring[i].instance != ring[(i + 1) % ring.size()].instance ? 1 : 0;
  }
  EXPECT_EQ(ring.size(), 32);
  EXPECT_EQ(crossings, 4);
}

TEST(AllReduceCost, OneMemberIsFree) {
  const Topology box = Machine("2xa6000");
  EXPECT_EQ(AllReduceCost(box, {{1}}, 1 << 20).seconds, 0);
  EXPECT_EQ(AllReduceCost(box, {}, 1 << 20).seconds, 0);
}

TEST(AllReduceCost, LittleDataIsLatencyAndMuchIsBandwidth) {
  const Topology dgx = Machine("8xh100 nvswitch");
  const std::vector<DeviceRef> all = Gpus(dgx);
  // Published: 5.7 to 5.9 us for 0.5 and 4 KiB on eight H100 (sglang pull request 2904).
  const ExchangeCost little = AllReduceCost(dgx, all, 4096);
  EXPECT_EQ(little.algorithm, "one-shot");
  EXPECT_NEAR(little.seconds, 5.7e-6, 0.3e-6);
  const ExchangeCost two = AllReduceCost(dgx, {all[0], all[1]}, 4096);
  EXPECT_NEAR(two.seconds, 3.7e-6, 0.3e-6);
  // Ring: 2 * 7/8 of the data at 0.8 of 450 GB/s, by hand.
  const double bytes = 1 << 30;
  const ExchangeCost much = AllReduceCost(dgx, all, 1 << 30);
  EXPECT_EQ(much.algorithm, "ring");
  EXPECT_NEAR(much.seconds, 1.75 * bytes / 360e9 + 8.4e-6 + 14 * 3.4e-6, 1e-9);
  EXPECT_EQ(much.bottleneck_bytes_per_s, 360e9);
}

TEST(AllReduceCost, SharesTheUplinkOfASwitch) {
  // Two switches: a good ring crosses once each way; one that goes to and fro shares the uplinks.
  Topology box = Machine("4xa6000 switch:2 cpu:16c,256GiB,200GB/s");
  for (Link& link : box.links) link.peer_access = PeerAccess::kYes;
  const ExchangeCost good = AllReduceCost(box, {{1}, {2}, {3}, {4}}, 32 << 20);
  const ExchangeCost bad = AllReduceCost(box, {{1}, {3}, {2}, {4}}, 32 << 20);
  EXPECT_NEAR(good.bottleneck_bytes_per_s, 0.76 * PcieBandwidth(4, 16), 1e6);
  EXPECT_NEAR(bad.bottleneck_bytes_per_s, 0.76 * PcieBandwidth(4, 16) / 2, 1e6);
  EXPECT_LT(good.seconds, bad.seconds);
}

TEST(AllReduceCost, AMeshOfNvlinkHasAsManyRingsAsLinks) {
  const Topology mesh = Machine("4xh100 nvlink");  // six links a pair
  EXPECT_NEAR(AllReduceCost(mesh, Gpus(mesh), 1 << 30).bottleneck_bytes_per_s, 0.8 * 450e9, 1);
  EXPECT_NEAR(AllReduceCost(mesh, {{1}, {2}}, 1 << 30).bottleneck_bytes_per_s, 0.8 * 150e9, 1);
  const Topology dgx1 = Machine("8xv100 cube-mesh");
  const std::vector<DeviceRef> ring = BestRing(dgx1, Gpus(dgx1));
  EXPECT_NEAR(AllReduceCost(dgx1, ring, 1 << 30).bottleneck_bytes_per_s, 0.8 * 150e9, 1);
}

TEST(AllReduceCost, BridgesAndSlotsMatter) {
  const int64_t bytes = 32 << 20;
  const Topology bridged = Machine("3xrtx3090 nvlink-pairs");
  const double pair = AllReduceCost(bridged, {{1}, {2}}, bytes).seconds;
  const double three = AllReduceCost(bridged, {{1}, {2}, {3}}, bytes).seconds;
  EXPECT_LT(3 * pair, three);
  // x4: a quarter of the rate. Through the host 0.6 of 7.88 GB/s, twice half of the data.
  const Topology narrow = Machine("rtx3090+rtx3060:pcie4x4");
  EXPECT_EQ(AllReduceCost(narrow, {{1}, {2}}, bytes).algorithm, "ring through the host");
  EXPECT_NEAR(AllReduceCost(narrow, {{1}, {2}}, bytes).seconds,
              static_cast<double>(bytes) / (0.6 * PcieBandwidth(4, 4)), 30e-6);
}

TEST(AllReduceCost, OverHostsTheNetworkCounts) {
  const Topology fast = Machine("4x[8xh100 nvswitch] ib:400x8@5us");
  const Topology slow = Machine("4x[8xh100 nvswitch] ib:400x8@5us oversubscription:4");
  const Topology ethernet = Machine("4x[8xh100 nvswitch] eth:25@30us");
  const int64_t bytes = 32 << 20;
  const double a = AllReduceCost(fast, Everywhere(fast), bytes).seconds;
  const double b = AllReduceCost(slow, Everywhere(slow), bytes).seconds;
  const double c = AllReduceCost(ethernet, Everywhere(ethernet), bytes).seconds;
  EXPECT_LT(a, b);
  EXPECT_LT(b, c);
  // Between the hosts alone: 1.5 of the data at 0.9 of 8 x 50 GB/s.
  EXPECT_GT(a, 1.5 * bytes / 360e9);
  EXPECT_LT(a, 10 * 1.5 * bytes / 360e9);
}

// Published all-reduce times against the model; a factor of two is what it is good for.
struct Published {
  const char* machine;
  int members;
  int64_t bytes;
  double seconds;
  const char* source;
};
constexpr Published kPublished[] = {
    {"8xh200 nvswitch", 8, int64_t{8} << 30, 1.75 * 8589934592.0 / 365.6e9, "stas00, NVLS off"},
    {"8xh200 nvswitch", 4, int64_t{8} << 30, 1.5 * 8589934592.0 / 363.3e9, "stas00"},
    {"8xa10040gb nvswitch", 8, int64_t{10737418240}, 80978e-6, "OCI BM.GPU4.8"},
    {"8xv100 cube-mesh numa:2", 8, 1 << 30, 13867e-6, "OCI BM.GPU3.8"},
    {"8xrtx4090", 8, 8, 42.14e-6, "NVIDIA/nccl issue 1530"},
    {"2xrtx4090", 2, 64, 11.27e-6, "tinygrad/open-gpu-kernel-modules issue 17"},
    {"2xrtx2080ti nvlink-pairs", 2, 33554432, 817.8e-6, "NVIDIA/nccl-tests issue 44"},
    {"8xh100 nvswitch", 8, 1 << 20, 33.8e-6, "sglang pull request 2904"},
    {"8xh100 nvswitch", 4, 32768, 4.8e-6, "sglang pull request 2904"},
};

TEST(AllReduceCost, IsNearPublishedTimes) {
  for (const Published& published : kPublished) {
    const Topology machine = Machine(published.machine);
    std::vector<DeviceRef> group = Gpus(machine);
    group.resize(published.members);
    group = BestRing(machine, group);
    const double seconds = AllReduceCost(machine, group, published.bytes).seconds;
    EXPECT_LT(seconds, 2 * published.seconds) << published.machine << ", " << published.source;
    EXPECT_GT(seconds, published.seconds / 2) << published.machine << ", " << published.source;
  }
}

TEST(PcieDistance, ByBridgesAndNumaNodes) {
  const auto device = [](std::vector<std::string> bridges, int numa) {
    DeviceInfo info;
    info.pci_bridges = std::move(bridges);
    info.numa_node = numa;
    return info;
  };
  EXPECT_EQ(PcieDistance(device({"a", "b", "c"}, 0), device({"a", "b", "d"}, 0)), LinkKind::kPix);
  EXPECT_EQ(PcieDistance(device({"a", "b", "c", "e", "f"}, 0), device({"a", "b", "d"}, 0)),
            LinkKind::kPxb);
  EXPECT_EQ(PcieDistance(device({"a"}, 0), device({"b"}, 0)), LinkKind::kPhb);
  EXPECT_EQ(PcieDistance(device({"a"}, 0), device({"b"}, 1)), LinkKind::kSystem);
  EXPECT_EQ(PcieDistance(device({}, 0), device({}, 0)), LinkKind::kPcie);
}

TEST(SocketBandwidth, ByTheNameOfTheCpu) {
  EXPECT_EQ(SocketBandwidth("Intel(R) Xeon(R) Platinum 8280 CPU"), 10e9);
  EXPECT_EQ(SocketBandwidth("Intel(R) Xeon(R) Platinum 8480C"), 22e9);
  EXPECT_EQ(SocketBandwidth("Intel(R) Xeon(R) Platinum 8570"), 40e9);
  EXPECT_EQ(SocketBandwidth("AMD EPYC 7742"), 16e9);
  EXPECT_EQ(SocketBandwidth("POWER9, altivec supported"), 32e9);
}

}  // namespace
}  // namespace tprun
