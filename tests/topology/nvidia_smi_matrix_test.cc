// The variants of `nvidia-smi topo -m` and `-p2p` of which the shared dumps have no file.

#include "topology/nvidia_smi_matrix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "topology/source.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Topology Read(const std::string& text) {
  const auto topology = MakeNvidiaSmiMatrixFormat()->Parse(text, "box.txt");
  EXPECT_TRUE(topology.ok()) << topology.status() << "\n" << text;
  return topology.ok() ? *topology : Topology();
}

std::string Refusal(const std::string& text) {
  const auto topology = MakeNvidiaSmiMatrixFormat()->Parse(text, "box.txt");
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(topology.status().message());
}

std::vector<std::string> Cpus(const Topology& topology) {
  std::vector<std::string> cpus;
  for (const DeviceInfo& device : topology.devices) cpus.push_back(device.cpus);
  return cpus;
}

std::vector<int> Nodes(const Topology& topology) {
  std::vector<int> nodes;
  for (const DeviceInfo& device : topology.devices) nodes.push_back(device.numa_node);
  return nodes;
}

std::vector<int> MemoryNodes(const Topology& topology) {
  std::vector<int> nodes;
  for (const DeviceInfo& device : topology.devices) nodes.push_back(device.memory_numa_node);
  return nodes;
}

// A matrix of `gpus` GPUs that have `cell` toward each other, without affinities.
std::string Uniform(int gpus, const std::string& cell) {
  std::string text;
  for (int i = 0; i < gpus; ++i) text += "\tGPU" + std::to_string(i);
  text += "\tCPU Affinity\n";
  for (int i = 0; i < gpus; ++i) {
    text += "GPU" + std::to_string(i);
    for (int j = 0; j < gpus; ++j) text += "\t" + (i == j ? " X " : cell);
    text += "\t0-7\n";
  }
  return text;
}

TEST(NvidiaSmiMatrix, ReadsSocOfOldDrivers) {
  const Topology topology = Read(
      "\tGPU0\tGPU1\tmlx4_0\tCPU Affinity\n"
      "GPU0\t X \tSOC\tPHB\t0-7,16-23\n"
      "GPU1\tSOC\t X \tSOC\t8-15,24-31\n"
      "mlx4_0\tPHB\tSOC\t X \t\n\nLegend:\n\n  X   = Self\n  SOC = Path traverses a socket\n");
  ASSERT_EQ(topology.links.size(), 1u);
  EXPECT_EQ(topology.links[0].kind, LinkKind::kSystem);
  EXPECT_THAT(Cpus(topology), ElementsAre("0-7,16-23", "8-15,24-31"));
  EXPECT_THAT(Nodes(topology), ElementsAre(-1, -1));
  ASSERT_EQ(topology.nics.size(), 1u);
  EXPECT_EQ(topology.nics[0].name, "mlx4_0");
  EXPECT_EQ(topology.nics[0].gpu_paths.at(0), LinkKind::kPhb);
  EXPECT_EQ(topology.nics[0].gpu_paths.at(1), LinkKind::kSystem);
}

TEST(NvidiaSmiMatrix, ReadsCodesThatLostTheirEscape) {
  for (const char* header : {"\t[4mGPU0\tGPU1\tCPU Affinity\tNUMA Affinity[0m\n",
                             "\t\x1b[4mGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\x1b[0m\n",
                             "\t^[[4mGPU0\tGPU1\tCPU Affinity\tNUMA Affinity^[[0m\n"}) {
    const Topology topology =
        Read(header + std::string("GPU0\t X \tPHB\t0-7\t0\nGPU1\tPHB\t X \t0-7\t0\n"));
    EXPECT_THAT(Nodes(topology), ElementsAre(0, 0)) << header;
  }
}

TEST(NvidiaSmiMatrix, TellsBlankCellsByTheTabs) {
  const std::string header = "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n";
  const auto rows = [&](const char* first, const char* second) {
    return Read(header + "GPU0\t X \tPIX" + first + "\nGPU1\tPIX\t X " + second + "\n");
  };
  const Topology cpu_blank = rows("\t\t1\t\tN/A", "\t\t1\t\t1");
  EXPECT_THAT(Cpus(cpu_blank), ElementsAre("", ""));
  EXPECT_THAT(Nodes(cpu_blank), ElementsAre(1, 1));
  EXPECT_THAT(MemoryNodes(cpu_blank), ElementsAre(-1, 1));
  const Topology both_blank = rows("\t\t\t\tN/A", "\t\t\t\t1");
  EXPECT_THAT(Nodes(both_blank), ElementsAre(-1, -1));
  EXPECT_THAT(MemoryNodes(both_blank), ElementsAre(-1, 1));
  const Topology no_node = rows("\t0-7\t\tN/A\t\tN/A", "\t8-15\t\tN/A\t\tN/A");
  EXPECT_THAT(Cpus(no_node), ElementsAre("0-7", "8-15"));
  EXPECT_THAT(Nodes(no_node), ElementsAre(-1, -1));
  const Topology one_blank = rows("\t0-7\t0\t\tN/A", "\t\t1\t\tN/A");
  EXPECT_THAT(Cpus(one_blank), ElementsAre("0-7", ""));
  EXPECT_THAT(Nodes(one_blank), ElementsAre(0, 1));
  EXPECT_THAT(one_blank.notes, testing::IsEmpty());
}

TEST(NvidiaSmiMatrix, SaysWhenTheTabsDoNotTellWhatIsBlank) {
  const Topology topology = Read(
      "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
      "GPU0\t X \tPIX\t\t\t\t\t\t7\nGPU1\tPIX\t X \t0-7\t0\t\tN/A\n");
  EXPECT_THAT(Nodes(topology), ElementsAre(-1, 0));
  EXPECT_THAT(topology.notes, ElementsAre(HasSubstr("box.txt:2: cells are blank")));
}

// As printed, with tab stops at every eighth column.
TEST(NvidiaSmiMatrix, TellsBlankCellsByThePositions) {
  const Topology topology = Read(
      "        GPU0    GPU1    CPU Affinity    NUMA Affinity   GPU NUMA ID\n"
      "GPU0     X      PIX             1               N/A\n"
      "GPU1    PIX      X                              1\n");
  EXPECT_THAT(Cpus(topology), ElementsAre("", ""));
  EXPECT_THAT(Nodes(topology), ElementsAre(1, -1));
  EXPECT_THAT(MemoryNodes(topology), ElementsAre(-1, 1));
}

TEST(NvidiaSmiMatrix, TellsBlankCellsByTheHeadsOfATableSetUpByHand) {
  const Topology topology = Read(
      "      GPU0  GPU1  CPU Affinity  NUMA Affinity  GPU NUMA ID\n"
      "GPU0   X    PIX                 1              N/A\n"
      "GPU1  PIX    X                  0              N/A\n");
  EXPECT_THAT(Cpus(topology), ElementsAre("", ""));
  EXPECT_THAT(Nodes(topology), ElementsAre(1, 0));
}

TEST(NvidiaSmiMatrix, ReadsTheMemoryNodeOfGraceHopper) {
  const Topology topology = Read(
      "\tGPU0\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
      "GPU0\t X \tSYS\t0-71\t0\t\t1\nNIC0\tSYS\t X \t\t\t\t\n"
      "NIC Legend:\n\n  NIC0: mlx5_bond_0\n");
  EXPECT_EQ(topology.devices[0].numa_node, 0);
  EXPECT_EQ(topology.devices[0].memory_numa_node, 1);
  EXPECT_EQ(topology.nics[0].name, "mlx5_bond_0");
}

TEST(NvidiaSmiMatrix, ReadsCpuListsOfContainers) {
  const Topology topology = Read(
      "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
      "GPU0\t X \tSYS\t4,6,9,15,17\t0-1\nGPU1\tSYS\t X \t0,2,4,6\tN/A\n");
  EXPECT_THAT(Cpus(topology), ElementsAre("4,6,9,15,17", "0,2,4,6"));
  EXPECT_THAT(Nodes(topology), ElementsAre(0, -1));
}

TEST(NvidiaSmiMatrix, LeavesOutAnAffinityThatIsNoList) {
  const Topology topology = Read("\tGPU0\tCPU Affinity\nGPU0\t X \t7-0\n");
  EXPECT_EQ(topology.devices[0].cpus, "");
  EXPECT_THAT(topology.notes, ElementsAre(HasSubstr("box.txt:2: CPU Affinity is left out")));
}

TEST(NvidiaSmiMatrix, ReadsAnyNumberOfGpus) {
  for (const int gpus : {1, 2, 3, 5, 6, 16}) {
    const Topology topology = Read(Uniform(gpus, "SYS"));
    EXPECT_EQ(topology.devices.size(), static_cast<size_t>(gpus));
    EXPECT_EQ(topology.links.size(), static_cast<size_t>(gpus * (gpus - 1) / 2));
  }
}

TEST(NvidiaSmiMatrix, KnowsLinksThroughASwitchByTheirNumber) {
  for (const Link& link : Read(Uniform(8, "NV18")).links) EXPECT_TRUE(link.via_switch);
  EXPECT_EQ(Read(Uniform(8, "NV18")).devices[0].nvlink_count, 18);
  for (const Link& link : Read(Uniform(16, "NV6")).links) EXPECT_TRUE(link.via_switch);
  // Four cards with six links to each of three peers have eighteen of their own.
  for (const Link& link : Read(Uniform(4, "NV6")).links) EXPECT_FALSE(link.via_switch);
  EXPECT_EQ(Read(Uniform(4, "NV6")).devices[0].nvlink_count, 0);
}

TEST(NvidiaSmiMatrix, TakesCellsApartThatRanTogether) {
  const Topology topology = Read(
      "\tGPU0\tGPU1\tNIC8NIC9\tNIC10NIC11 CPU Affinity\tNUMA Affinity\n"
      "GPU0\t X \tNV12\tNODENODE\tSYSPXB\t0-7\t0\n"
      "GPU1\tNV12\t X \tNODENODE\tPXBSYS\t0-7\t0\n");
  ASSERT_EQ(topology.nics.size(), 4u);
  EXPECT_EQ(topology.nics[1].name, "NIC9");
  EXPECT_EQ(topology.nics[1].gpu_paths.at(0), LinkKind::kNode);
  EXPECT_EQ(topology.nics[3].name, "NIC11");
  EXPECT_EQ(topology.nics[3].gpu_paths.at(0), LinkKind::kPxb);
  EXPECT_THAT(Nodes(topology), ElementsAre(0, 0));
}

TEST(NvidiaSmiMatrix, ReadsAMatrixWhoseNicRowsAreCutOrMissing) {
  const std::string gpus = "\tGPU0\tNIC0\tNIC1\tCPU Affinity\nGPU0\t X \tPIX\tSYS\t0-7\n";
  for (const char* rest : {"", "NIC0\tPIX\t X \tSYS\n", "NIC0\tPIX\nNIC1\tSYS\tSYS\t X\n"}) {
    const Topology topology = Read(gpus + rest);
    ASSERT_EQ(topology.nics.size(), 2u) << rest;
    EXPECT_EQ(topology.nics[0].gpu_paths.at(0), LinkKind::kPix);
  }
}

TEST(NvidiaSmiMatrix, LeavesOutNamesThatNvidiaSmiItselfPrintsBroken) {
  const Topology topology = Read(
      "\tGPU0\tNIC0\tNIC1\tCPU Affinity\nGPU0\t X \tPIX\tSYS\t0-7\n"
      "\nNIC Legend:\n\n  NIC0: mlx5_0\n  NIC1: MA ID\n");
  EXPECT_EQ(topology.nics[0].name, "mlx5_0");
  EXPECT_EQ(topology.nics[1].name, "NIC1");
  EXPECT_THAT(topology.notes, ElementsAre(HasSubstr("\"MA ID\"")));
}

TEST(NvidiaSmiMatrix, SaysThatTheHeaderIsMissing) {
  const Topology topology = Read(
      "GPU0\t X \tNV4\tNODE\t0-31\t0\nGPU1\tNV4\t X \tNODE\t0-31\t0\n"
      "GPU2\tNODE\tNODE\t X \t0-31\t0\n");
  EXPECT_EQ(topology.devices.size(), 3u);
  ASSERT_EQ(topology.links.size(), 3u);
  EXPECT_EQ(topology.links[0].count, 4);
  EXPECT_THAT(Cpus(topology), ElementsAre("", "", ""));
  EXPECT_THAT(Nodes(topology), ElementsAre(-1, -1, -1));
  EXPECT_THAT(topology.notes, ElementsAre(HasSubstr("box.txt:1: the header")));
  // Cells of columns without a row are left out, those of NICs with one are known.
  EXPECT_EQ(Read("GPU0\t X \tPIX\tSYS\t0-31\n").nics.size(), 0u);
  EXPECT_EQ(Read("GPU0\t X \tPIX\t0-31\nNIC0\tPIX\t X\n").nics.size(), 1u);
}

TEST(NvidiaSmiMatrix, FindsItAmongPromptsAndProse) {
  const Topology topology = Read(
      "GPU0 is the one by the door.\nuser@box:~$ nvidia-smi topo -m\r\n"
      "\tGPU0\tGPU1\tCPU Affinity\r\nGPU0\t X \tPHB\t0-7\r\nGPU1\tPHB\t X \t0-7\r\n"
      "user@box:~$ echo GPU0 X\n");
  EXPECT_EQ(topology.devices.size(), 2u);
  EXPECT_THAT(Cpus(topology), ElementsAre("0-7", "0-7"));
}

TEST(NvidiaSmiMatrix, TakesTheSameMatrixTwiceAndRefusesTwoThatDiffer) {
  EXPECT_EQ(Read(Uniform(2, "PHB") + "\nLegend:\n\n" + Uniform(2, "PHB")).devices.size(), 2u);
  EXPECT_THAT(Refusal(Uniform(2, "PHB") + "\nLegend:\n" + Uniform(2, "SYS")),
              HasSubstr("box.txt:6: a second matrix that differs"));
}

TEST(NvidiaSmiMatrix, RefusesWhatIsNotSound) {
  EXPECT_THAT(Refusal("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPHB\t0-7\nGPU1\tSYS\t X \t0-7\n"),
              AllOf(HasSubstr("box.txt:3: the matrix is not symmetric"), HasSubstr("PHB"),
                    HasSubstr("SYS")));
  EXPECT_THAT(Refusal("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPHB\t0-7\n"),
              HasSubstr("box.txt:2: wanted a row for each of the 2 GPUs, found 1"));
  EXPECT_THAT(Refusal("\tGPU0\tGPU1\nGPU0\t X \t X \nGPU1\t X \t X \n"),
              HasSubstr("box.txt:2: wanted X (self) toward GPU0 only"));
  EXPECT_THAT(Refusal("\tGPU0\tGPU1\nGPU0\tPHB\tPHB\nGPU1\tPHB\t X \n"),
              HasSubstr("box.txt:2: wanted X (self)"));
  EXPECT_THAT(Refusal("\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\t??? \t X \n"),
              AllOf(HasSubstr("box.txt:3: wanted a cell"), HasSubstr("\"???")));
  EXPECT_THAT(Refusal("\tGPU0\tGPU0\nGPU0\t X \tPHB\nGPU0\tPHB\t X \n"),
              HasSubstr("two columns GPU0"));
  EXPECT_THAT(Refusal("\tGPU0\tCPU Affinity\nGPU0\t X \t0-7\t0\t5\n"),
              HasSubstr("box.txt:2: wanted at most 1 values"));
  EXPECT_THAT(Refusal("\tGPU0\tCPU Affinity\tMoon Phase\nGPU0\t X \t0-7\t0\n"),
              HasSubstr("Moon Phase"));
}

constexpr char kStates[] =
    " \tGPU0\tGPU1\tGPU2\t\n GPU0\tX\tOK\tCNS\t\n GPU1\tOK\tX\tOK\t\n GPU2\tU\tOK\tX\t\n\n"
    "Legend:\n\n  X    = Self\n  OK   = Status Ok\n";

TEST(NvidiaSmiP2p, ReadsWhoReachesWhom) {
  EXPECT_THAT(Refusal(kStates), HasSubstr("box.txt:1: this is `nvidia-smi topo -p2p`"));
  const auto topology = MakeNvidiaSmiP2pFormat()->Parse(kStates, "box.txt");
  ASSERT_TRUE(topology.ok()) << topology.status();
  ASSERT_EQ(topology->links.size(), 3u);
  EXPECT_EQ(topology->links[0].peer_access, PeerAccess::kYes);
  EXPECT_EQ(topology->links[1].peer_access, PeerAccess::kNo);
  EXPECT_EQ(topology->links[1].peer_access_reason, "CNS: chipset not supported");
  EXPECT_EQ(topology->links[2].peer_access, PeerAccess::kYes);
  EXPECT_FALSE(MakeNvidiaSmiMatrixFormat()->Matches(kStates));
}

TEST(NvidiaSmiP2p, LeavesOutTheTablesOfOtherCapabilities) {
  const auto topology =
      MakeNvidiaSmiP2pFormat()->Parse(std::string("$ nvidia-smi topo -p2p n\n") + kStates, "a");
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(topology->links.size(), 0u);
}

TEST(NvidiaSmiP2p, RefusesWhatIsNotSound) {
  for (const char* text :
       {"\tGPU0\tGPU1\nGPU0\tX\tOK\n", "\tGPU0\tGPU1\nGPU0\tX\tOK\nGPU1\tX\tOK\n",
        "\tGPU0\tGPU1\nGPU0\tX\tOK\nGPU1\tNV4\tX\n"}) {
    const auto topology = MakeNvidiaSmiP2pFormat()->Parse(text, "box.txt");
    EXPECT_THAT(std::string(topology.status().message()), HasSubstr("box.txt:")) << text;
  }
}

// A matrix and the states below it are one machine.
TEST(NvidiaSmiP2p, JoinsTheMatrixOfTheSamePaste) {
  const auto topology = ParseTopologyText(Uniform(3, "NV4") + "\nLegend:\n\n" + kStates, "a");
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(topology->devices.size(), 3u);
  ASSERT_EQ(topology->links.size(), 3u);
  EXPECT_EQ(topology->links[0].kind, LinkKind::kNvlink);
  EXPECT_EQ(topology->links[0].peer_access, PeerAccess::kYes);
  EXPECT_EQ(topology->links[1].peer_access, PeerAccess::kNo);
}

}  // namespace
}  // namespace tprun
