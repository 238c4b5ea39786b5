// Several dumps of one machine make one topology.

#include <map>

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "tests/topology/dump_index.h"
#include "topology/merge_devices.h"
#include "topology/source.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Topology Parse(const std::string& text, const std::string& path = "a.txt") {
  const auto topology = ParseTopologyText(text, path);
  EXPECT_TRUE(topology.ok()) << topology.status();
  return topology.ok() ? *topology : Topology();
}

Topology Merge(const std::vector<Topology>& topologies) {
  const auto merged = MergeTopologies(topologies);
  EXPECT_TRUE(merged.ok()) << merged.status();
  return merged.ok() ? *merged : Topology();
}

constexpr char kMatrix[] =
    "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
    "GPU0\t X \tNODE\t0-7\t0\nGPU1\tNODE\t X \t0-7\t0\n";

std::string Nccl(const std::string& first, const std::string& second) {
  const auto gpu = [](const std::string& bus) {
    return "<pci busid=\"" + bus +
           "\" class=\"0x030200\" link_speed=\"16.0 GT/s\" link_width=\"8\"/>";
  };
  return "<system><cpu numaid=\"0\" affinity=\"ff\">" + gpu(first) + gpu(second) +
         "</cpu></system>";
}

// "same machine as F" in the index: each such dump with F, in both orders.
TEST(Merge, JoinsTheDumpsOfOneMachine) {
  TPRUN_NEEDS_TEST_DATA();
  std::map<std::string, DumpRow> by_name;
  const std::vector<DumpRow> index = DumpIndex();
  for (const DumpRow& row : index) by_name[row.file.substr(row.file.find('/') + 1)] = row;
  int merged_pairs = 0;
  for (const DumpRow& row : index) {
    const std::string tie = "same machine as ";
    if (row.machine.compare(0, tie.size(), tie) != 0) continue;
    const std::string name =
        row.machine.substr(tie.size(), row.machine.find(' ', tie.size()) - tie.size());
    ASSERT_EQ(by_name.count(name), 1u) << name;
    const Topology one = Parse(row.Text(), row.file);
    const Topology other = Parse(by_name[name].Text(), name);
    for (const auto& pair : {std::vector<Topology>{one, other}, {other, one}}) {
      const Topology both = Merge(pair);
      EXPECT_EQ(both.devices.size(), other.devices.size()) << row.file;
      EXPECT_EQ(both.nics.size(), std::max(one.nics.size(), other.nics.size())) << row.file;
      for (const std::string& note : both.notes) {
        EXPECT_THAT(note, Not(HasSubstr("left out"))) << row.file;
        EXPECT_THAT(note, Not(HasSubstr("is kept"))) << row.file;
      }
    }
    ++merged_pairs;
  }
  EXPECT_GE(merged_pairs, 8);
}

TEST(Merge, HasTheFactsOfAllSources) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TestDataDirectory() + "/topology/nvidia-smi/";
  const auto topology = ReadTopologyFiles(
      {folder + "h200-8x-nv18-nic12-topo.txt", folder + "h200-8x-query-gpu-pcie.csv"});
  ASSERT_TRUE(topology.ok()) << topology.status();
  ASSERT_EQ(topology->devices.size(), 8u);
  for (const DeviceInfo& gpu : topology->devices) {
    EXPECT_EQ(gpu.name, "NVIDIA H200");
    EXPECT_EQ(gpu.memory_bytes, 143771 * kMiB);
    // Neither dump says what is in use.
    EXPECT_EQ(gpu.available_bytes, gpu.memory_bytes);
    EXPECT_EQ(gpu.sources.at("available_bytes"), "estimate: all free");
    EXPECT_EQ(gpu.nvlink_count, 18);
    EXPECT_EQ(gpu.sources.at("memory_bytes"), "nvidia-smi --query-gpu");
    EXPECT_EQ(gpu.sources.at("cpus"), "nvidia-smi topo -m");
  }
  EXPECT_EQ(topology->nics.size(), 12u);
}

TEST(Merge, LetsTheFirstThatStatesAFactWinAndSaysSo) {
  const Topology first =
      Parse("index, name, uuid, memory.total [MiB]\n0, NVIDIA A, GPU-1, 1000 MiB\n");
  const Topology second =
      Parse("index, name, uuid, memory.total [MiB]\n0, NVIDIA A, GPU-1, 2000 MiB\n");
  const Topology merged = Merge({first, second});
  ASSERT_EQ(merged.devices.size(), 1u);
  EXPECT_EQ(merged.devices[0].memory_bytes, 1000 * kMiB);
  EXPECT_THAT(merged.notes, ElementsAre(HasSubstr("cuda:0: memory_bytes is 1048576000 by")));
  EXPECT_EQ(Merge({second, first}).devices[0].memory_bytes, 2000 * kMiB);
}

TEST(Merge, JoinsByUuidAndBusIdBeforeIndex) {
  // The two list the cards in the opposite order.
  const Topology first =
      Parse("index, uuid, pci.bus_id\n0, GPU-1, 00000000:01:00.0\n1, GPU-2, 00000000:02:00.0\n");
  const Topology by_uuid =
      Merge({first, Parse("index, uuid, memory.total [MiB]\n0, GPU-2, 2 MiB\n1, GPU-1, 1 MiB\n")});
  EXPECT_EQ(by_uuid.devices[0].memory_bytes, 1 * kMiB);
  EXPECT_EQ(by_uuid.devices[1].memory_bytes, 2 * kMiB);
  const Topology by_bus_id = Merge({first, Parse(Nccl("0000:02:00.0", "0000:01:00.0"))});
  ASSERT_EQ(by_bus_id.devices.size(), 3u);  // and the CPU, in front
  EXPECT_EQ(by_bus_id.devices[0].kind, DeviceKind::kCpu);
  EXPECT_EQ(by_bus_id.devices[1].uuid, "GPU-1");
  EXPECT_EQ(by_bus_id.devices[1].pcie_width, 8);
  ASSERT_EQ(by_bus_id.links.size(), 1u);
  EXPECT_THAT((std::vector<int>{by_bus_id.links[0].a, by_bus_id.links[0].b}),
              testing::UnorderedElementsAre(1, 2));
  EXPECT_THAT(by_bus_id.notes, Not(Contains(HasSubstr("by their index"))));
}

// nvidia-smi numbers in the order of bus ids, which a provider's file need not have.
TEST(Merge, JoinsByIndexInTheOrderOfBusIds) {
  const Topology merged =
      Merge({Parse(kMatrix), Parse(Nccl("0002:00:00.0", "0001:00:00.0"), "b.xml")});
  ASSERT_EQ(merged.devices.size(), 3u);
  EXPECT_EQ(merged.devices[1].id, "cuda:0");
  EXPECT_EQ(merged.devices[1].pci_bus_id, "0001:00:00.0");
  EXPECT_THAT(merged.notes, Contains(HasSubstr("by their index")));
  // NODE and NCCL's PHB do not contradict each other.
  ASSERT_EQ(merged.links.size(), 1u);
  EXPECT_EQ(merged.links[0].kind, LinkKind::kNode);
  EXPECT_THAT(merged.notes, Not(Contains(HasSubstr("is kept"))));
  const Topology reversed =
      Merge({Parse(Nccl("0002:00:00.0", "0001:00:00.0"), "b.xml"), Parse(kMatrix)});
  EXPECT_EQ(reversed.links[0].kind, LinkKind::kNode);
  EXPECT_EQ(reversed.devices[1].pci_bus_id, "0002:00:00.0");
  EXPECT_EQ(reversed.devices[1].id, "cuda:1");
}

TEST(Merge, LeavesOutWhatItCannotJoin) {
  const Topology merged =
      Merge({Parse(kMatrix), Parse("name, memory.total [MiB]\nNVIDIA A, 1 MiB\n")});
  EXPECT_EQ(merged.devices.size(), 2u);
  EXPECT_THAT(merged.notes, ElementsAre(HasSubstr("1 of 1 GPUs of a.txt are left out")));
  // Nor where the names disagree.
  const Topology named = Merge({Parse("index, name\n0, NVIDIA A\n1, NVIDIA B\n"),
                                Parse("index, name\n0, NVIDIA B\n1, NVIDIA A\n", "b.txt")});
  EXPECT_THAT(named.notes, ElementsAre(HasSubstr("2 of 2 GPUs of b.txt are left out")));
}

TEST(Merge, AddsGpusThatAreOthers) {
  const Topology merged =
      Merge({Parse("index, uuid\n0, GPU-1\n"), Parse("index, uuid\n1, GPU-2\n")});
  EXPECT_EQ(merged.devices.size(), 2u);
  EXPECT_THAT(merged.notes, IsEmpty());
}

TEST(Merge, KnowsASwitchWhenACardHasFewerLinks) {
  const std::string header = "\tGPU0\tGPU1\tGPU2\n";
  const std::string matrix =
      header + "GPU0\t X \tNV8\tNV8\nGPU1\tNV8\t X \tNV8\nGPU2\tNV8\tNV8\t X \n";
  EXPECT_FALSE(Parse(matrix).links[0].via_switch);  // sixteen links may be a card's own
  std::string links;
  for (int gpu = 0; gpu < 3; ++gpu) {
    links +=
        "GPU " + std::to_string(gpu) + ": NVIDIA H800 (UUID: GPU-" + std::to_string(gpu) + ")\n";
    for (int i = 0; i < 8; ++i) links += "\t Link " + std::to_string(i) + ": 26.562 GB/s\n";
  }
  const Topology merged = Merge({Parse(matrix), Parse(links)});
  for (const Link& link : merged.links) EXPECT_TRUE(link.via_switch);
}

TEST(Merge, RefusesOtherHosts) {
  Topology two;
  two.hosts = {{.name = "a"}, {.name = "b"}};
  EXPECT_THAT(std::string(MergeTopologies({two, Parse(kMatrix)}).status().message()),
              HasSubstr("wanted the same hosts"));
  EXPECT_FALSE(MergeTopologies({}).ok());
}

TEST(Merge, KnowsNamesThatNvidiaSmiCut) {
  EXPECT_TRUE(NamesAgree("Tesla V100-SXM2...", "NVIDIA Tesla V100-SXM2-16GB"));
  EXPECT_TRUE(NamesAgree("NVIDIA A100 80GB...", "NVIDIA A100 80GB PCIe"));
  EXPECT_TRUE(NamesAgree("A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"));
  EXPECT_TRUE(NamesAgree("", "NVIDIA L4"));
  EXPECT_FALSE(NamesAgree("NVIDIA L4", "NVIDIA L40"));
}

}  // namespace
}  // namespace tprun
