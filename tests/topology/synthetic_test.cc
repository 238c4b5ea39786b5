#include "topology/synthetic.h"

#include <string>

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "topology/cluster_file.h"

namespace tprun {
namespace {

using testing::HasSubstr;

const GpuCatalogue& Catalogue() {
  static const GpuCatalogue* const catalogue = new GpuCatalogue(*GpuCatalogue::ReadDefault());
  return *catalogue;
}

Topology Parse(const std::string& line) {
  auto topology = ParseSynthetic(line, Catalogue());
  EXPECT_TRUE(topology.ok()) << line << ": " << topology.status();
  return topology.ok() ? *std::move(topology) : Topology();
}

int CountNvlinks(const Topology& topology) {
  int count = 0;
  for (const Link& link : topology.links) count += link.kind == LinkKind::kNvlink ? 1 : 0;
  return count;
}

TEST(Synthetic, TwoUnlikeCards) {
  const Topology box = Parse("rtx3090+rtx3060");
  ASSERT_EQ(box.devices.size(), 3);
  EXPECT_EQ(box.source, "rtx3090+rtx3060");
  EXPECT_EQ(box.devices[1].name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(box.devices[2].memory_bytes, 12 * kGiB);
  EXPECT_EQ(box.links.size(), 3);
  EXPECT_FALSE(box.notes.empty());  // the CPU is assumed
}

TEST(Synthetic, HostsInBracketsAndANetwork) {
  const Topology boxes = Parse("2x[4xrtx3090 nvlink-pairs] ib:100");
  ASSERT_EQ(boxes.hosts.size(), 1);
  EXPECT_EQ(boxes.hosts[0].count, 2);
  EXPECT_EQ(boxes.devices.size(), 5);
  EXPECT_EQ(CountNvlinks(boxes), 2);
  ASSERT_EQ(boxes.fabrics.size(), 1);
  EXPECT_EQ(boxes.fabrics[0].bandwidth_bytes_per_s, 12.5e9);
  EXPECT_TRUE(LocateDevice(boxes, "node1/cuda:3").ok());
}

TEST(Synthetic, SeveralKindsOfHosts) {
  const Topology boxes = Parse("2x[8xh200 nvswitch]+3x[4xl40s cpu:64c,512GiB] ib:400x8@3us eth:25");
  ASSERT_EQ(boxes.hosts.size(), 2);
  EXPECT_EQ(CountHosts(boxes), 5);
  EXPECT_EQ(boxes.fabrics[0].nics_per_host, 8);
  EXPECT_EQ(boxes.fabrics[0].bandwidth_bytes_per_s, 400e9);
  EXPECT_EQ(boxes.fabrics[0].latency_s, 3e-6);
  EXPECT_TRUE(LocateDevice(boxes, "node-12/cuda:3").ok());
}

TEST(Synthetic, TenThousandHosts) {
  EXPECT_EQ(CountHosts(Parse("10000x[8xb200 nvswitch] ib:400x8 oversubscription:2")), 10000);
}

TEST(Synthetic, OptionsOfGpusAndHost) {
  const Topology box = Parse("2xrtx3060:11GiB,pcie4x4+4090 pcie:3x8 numa:3 cpu:32c,256GiB,200GB/s");
  ASSERT_EQ(box.devices.size(), 4);
  EXPECT_EQ(box.devices[0].cores, 32);
  EXPECT_EQ(box.devices[0].memory_bytes, 256 * kGiB);
  EXPECT_EQ(box.devices[0].memory_bandwidth_bytes_per_s, 200e9);
  EXPECT_EQ(box.devices[1].memory_bytes, 11 * kGiB);
  EXPECT_EQ(box.devices[2].pcie_width, 4);
  EXPECT_EQ(box.devices[2].pcie_generation, 4);
  EXPECT_EQ(box.devices[3].name, "NVIDIA GeForce RTX 4090");
  EXPECT_EQ(box.devices[3].pcie_generation, 3);
  EXPECT_EQ(box.devices[3].numa_node, 2);
  EXPECT_TRUE(box.notes.empty());
}

TEST(Synthetic, NvlinkForms) {
  const Topology mesh = Parse("4xh100 nvlink");
  ASSERT_EQ(CountNvlinks(mesh), 6);
  for (const Link& link : mesh.links) {
    if (link.kind != LinkKind::kNvlink) continue;
    EXPECT_EQ(link.bandwidth_bytes_per_s, 150e9);
  }
  const Topology cube = Parse("8xv100 cube-mesh");
  EXPECT_EQ(CountNvlinks(cube), 16);
  std::vector<int> links(9);
  for (const Link& link : cube.links) {
    if (link.kind != LinkKind::kNvlink) continue;
    links[link.a] += link.count;
    links[link.b] += link.count;
  }
  EXPECT_THAT(links, testing::ElementsAre(0, 6, 6, 6, 6, 6, 6, 6, 6));
  EXPECT_EQ(CountNvlinks(Parse("rtx4090+2xrtx3090 nvlink-pairs")), 1);
}

TEST(Synthetic, WhatIsWrongIsSaidWithTheGrammar) {
  const auto message = [](const std::string& line) {
    const auto topology = ParseSynthetic(line, Catalogue());
    EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(topology.status().message()), HasSubstr("2x[4xrtx3090")) << line;
    return std::string(topology.status().message());
  };
  EXPECT_THAT(message("2xrtx9999"), HasSubstr("no such GPU"));
  EXPECT_THAT(message("0xrtx3090"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(message("99xrtx3090"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(message("60xt4+60xt4"), HasSubstr("at most 64"));
  EXPECT_THAT(message("99999x[rtx3090] ib:1"), HasSubstr("10000"));
  EXPECT_THAT(message("2x[rtx3090"), HasSubstr("brackets"));
  EXPECT_THAT(message("2x[rtx3090]x ib:100"), HasSubstr("behind the bracket"));
  EXPECT_THAT(message("2x[rtx3090]+ ib:100"), HasSubstr("behind the bracket"));
  EXPECT_THAT(message("2x[[rtx3090]]"), HasSubstr("brackets"));
  EXPECT_THAT(message("2x[rtx3090]"), HasSubstr("there are 2 hosts"));
  EXPECT_THAT(message("2x[rtx3090] ib:fast"), HasSubstr("Gbit/s"));
  EXPECT_THAT(message("2x[rtx3090] ib:100@x"), HasSubstr("time after @"));
  EXPECT_THAT(message("2xrtx4090 nvlink-pairs"), HasSubstr("have NVLink"));
  EXPECT_THAT(message("2xrtx4090 nvswitch"), HasSubstr("has no NVLink"));
  EXPECT_THAT(message("1xrtx3090 nvlink"), HasSubstr("two GPUs"));
  EXPECT_THAT(message("4xv100 cube-mesh"), HasSubstr("eight"));
  EXPECT_THAT(message("rtx3090:pcie9x9"), HasSubstr("generation x lanes"));
  EXPECT_THAT(message("rtx3090:99XiB"), HasSubstr("memory size"));
  EXPECT_THAT(message("cpu:many"), HasSubstr("wanted cores"));
  EXPECT_THAT(message("a100:99999GiB"), HasSubstr("wanted a memory of 256 MiB to"));
  EXPECT_THAT(message("a100:1MiB"), HasSubstr("the usual: 80.00 GiB"));
  EXPECT_THAT(message("cpu:8c,99999TiB"), HasSubstr("wanted a memory of 256 MiB to 64.00 TiB"));
  EXPECT_THAT(message("a100 pcie:4x3"), HasSubstr("wanted 1, 2, 4, 8 or 16 lanes"));
  EXPECT_THAT(message("a100:pcie4x32"), HasSubstr("wanted 1, 2, 4, 8 or 16 lanes"));
  EXPECT_THAT(message("quantum9000"), testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(message("ib:100"), HasSubstr("wanted a host"));
  EXPECT_THAT(message("nvlink"), HasSubstr("wanted GPUs"));
  message("");
  message(std::string(100000, '['));
}

TEST(Synthetic, ATypoGetsTheNearestName) {
  const auto message = [](const char* line) {
    return std::string(ParseSynthetic(line, Catalogue()).status().message());
  };
  EXPECT_EQ(message("rtx4900"), "\"rtx4900\": no such GPU in gpus.yaml; did you mean rtx4090?");
  EXPECT_THAT(message("2x[3900] ib:100"), HasSubstr("\"3900\": no such GPU in gpus.yaml; did you "
                                                    "mean rtx3090?"));
  EXPECT_THAT(message("h20O"), HasSubstr("h200"));
}

TEST(Synthetic, ModdedCardsMayHaveMoreMemory) {
  EXPECT_EQ(Parse("rtx4090:48GiB").devices[1].memory_bytes, 48 * kGiB);
  EXPECT_EQ(Parse("2080ti:22GiB").devices[1].memory_bytes, 22 * kGiB);
}

TEST(LooksSynthetic, TellsLinesFromFiles) {
  for (const char* line :
       {"rtx3090+rtx3060", "2x[4xrtx3090 nvlink-pairs] ib:100", "8xh200 nvswitch",
        "cpu:32c,256GiB,200GB/s", "h200", "rtx3090:pcie4x4 eth:2.5@1.5us\n"}) {
    EXPECT_TRUE(LooksSynthetic(line)) << line;
  }
  for (const char* text : {"", "hello", "hosts:\n  - a", "{\"a\": 1}", "<system>", "box.yaml",
                           "/tmp/8x", "clusters/dgx1"}) {
    EXPECT_FALSE(LooksSynthetic(text)) << text;
  }
}

}  // namespace
}  // namespace tprun
