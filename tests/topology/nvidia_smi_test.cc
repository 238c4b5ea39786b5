// The other outputs of nvidia-smi: variants of which the shared dumps have no file.

#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "topology/nvidia_smi_csv.h"
#include "topology/nvidia_smi_query.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Topology Read(const std::unique_ptr<TopologyFormat>& format, const std::string& text) {
  EXPECT_TRUE(format->Matches(text)) << text;
  const auto topology = format->Parse(text, "box.txt");
  EXPECT_TRUE(topology.ok()) << topology.status() << "\n" << text;
  return topology.ok() ? *topology : Topology();
}

std::string Refusal(const std::unique_ptr<TopologyFormat>& format, const std::string& text) {
  const auto topology = format->Parse(text, "box.txt");
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(topology.status().message());
}

TEST(NvidiaSmiText, RemovesTerminalCodesOnly) {
  const auto lines = CleanLines("\xEF\xBB\xBF\x1b[4mA\x1b[0m [N/A]\t \r\n[4mB[0m ^C\x1b[1;31mD");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].text, "A [N/A]\t");
  EXPECT_EQ(lines[1].text, "B ^CD");
  EXPECT_EQ(lines[1].number, 2);
}

TEST(NvidiaSmiNvlink, CountsActiveLinksOnly) {
  const Topology topology = Read(MakeNvidiaSmiNvlinkFormat(),
                                 "GPU 0: NVIDIA B200 (UUID: GPU-1)\n"
                                 "\t Link 0: 53.125 GB/s\n\t Link 1: <inactive>\n"
                                 "GPU 1: NVIDIA B200 (UUID: GPU-2)\n"
                                 "         Link 0: <inactive>\n         Link 1: <inactive>\n");
  ASSERT_EQ(topology.devices.size(), 2u);
  EXPECT_EQ(topology.devices[0].nvlink_count, 1);
  EXPECT_DOUBLE_EQ(topology.devices[0].nvlink_bandwidth_bytes_per_s, 53.125e9);
  EXPECT_EQ(topology.devices[1].nvlink_count, 0);
  EXPECT_EQ(topology.devices[1].sources.count("nvlink_count"), 1u);  // known to be none
  EXPECT_EQ(topology.links.size(), 0u);                              // never peers
}

TEST(NvidiaSmiNvlink, RefusesARateThatIsNone) {
  EXPECT_THAT(
      Refusal(MakeNvidiaSmiNvlinkFormat(), "GPU 0: NVIDIA B200 (UUID: GPU-1)\n\t Link 0: fast\n"),
      HasSubstr("box.txt:2: wanted \"Link #: # GB/s\""));
}

TEST(NvidiaSmiList, ReadsMigIdsOfOldDrivers) {
  const Topology topology = Read(MakeNvidiaSmiListFormat(),
                                 "GPU 3: A100-SXM4-40GB (UUID: GPU-5a)\n"
                                 "  MIG 3g.20gb Device 0: (UUID: MIG-GPU-5a/2/0)\n"
                                 "GPU 4: A100-SXM4-40GB (UUID: GPU-5b)\n");
  ASSERT_EQ(topology.devices.size(), 2u);
  EXPECT_EQ(topology.devices[0].id, "cuda:3");
  EXPECT_EQ(topology.devices[0].mig, "on");
  ASSERT_EQ(topology.devices[0].mig_instances.size(), 1u);
  EXPECT_EQ(topology.devices[0].mig_instances[0].uuid, "MIG-GPU-5a/2/0");
  EXPECT_EQ(topology.devices[0].mig_instances[0].profile, "3g.20gb");
  // No lines below a card say nothing: the job may own no instance of it.
  EXPECT_EQ(topology.devices[1].mig, "");
}

TEST(NvidiaSmiList, RefusesAnInstanceWithoutItsGpu) {
  EXPECT_THAT(Refusal(MakeNvidiaSmiListFormat(), "  MIG 3g.20gb Device 0: (UUID: MIG-1)\n"),
              HasSubstr("box.txt:1"));
}

TEST(NvidiaSmiMig, ReadsGpuInstances) {
  const Topology topology = Read(MakeNvidiaSmiMigFormat(),
                                 "+----------------------------------------------------+\n"
                                 "| GPU instances:                                     |\n"
                                 "| GPU   Name          Profile  Instance   Placement  |\n"
                                 "|                       ID       ID       Start:Size |\n"
                                 "|====================================================|\n"
                                 "|   0  MIG 2g.10gb       14        3          0:2     |\n"
                                 "+----------------------------------------------------+\n"
                                 "|   0  MIG 1g.5gb+me     20        7          4:1     |\n"
                                 "+----------------------------------------------------+\n"
                                 "|   2  MIG 7g.40gb        0        0          0:8     |\n"
                                 "+----------------------------------------------------+\n");
  ASSERT_EQ(topology.devices.size(), 2u);
  ASSERT_EQ(topology.devices[0].mig_instances.size(), 2u);
  EXPECT_EQ(topology.devices[0].mig_instances[1].profile, "1g.5gb+me");
  EXPECT_EQ(topology.devices[1].id, "cuda:2");
  EXPECT_EQ(topology.devices[1].mig, "on");
  EXPECT_THAT(Refusal(MakeNvidiaSmiMigFormat(), "| GPU instances: |\n"), HasSubstr("no instance"));
}

constexpr char kOldTable[] =
    "+-----------------------------------------------------------------------------+\n"
    "| NVIDIA-SMI 418.67       Driver Version: 418.67       CUDA Version: 10.1     |\n"
    "|-------------------------------+----------------------+----------------------+\n"
    "| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |\n"
    "| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |\n"
    "|===============================+======================+======================|\n"
    "|   0  Tesla V100-SXM2...  On   | 00000000:00:1B.0 Off |                    0 |\n"
    "| N/A   41C    P0    42W / 300W |   1024MiB / 16130MiB |      0%      Default |\n"
    "+-------------------------------+----------------------+----------------------+\n"
    "+-----------------------------------------------------------------------------+\n"
    "| Processes:                                                       GPU Memory |\n"
    "|  GPU       PID   Type   Process name                             Usage      |\n"
    "|=============================================================================|\n"
    "|    0      4711      C   python train.py                             1013MiB |\n"
    "+-----------------------------------------------------------------------------+\n";

TEST(NvidiaSmiTable, ReadsTheTableOfOldDrivers) {
  const Topology topology = Read(MakeNvidiaSmiTableFormat(), kOldTable);
  ASSERT_EQ(topology.devices.size(), 1u);
  const DeviceInfo& gpu = topology.devices[0];
  EXPECT_EQ(gpu.name, "Tesla V100-SXM2...");
  EXPECT_EQ(gpu.pci_bus_id, "0000:00:1b.0");
  EXPECT_EQ(gpu.memory_bytes, 16130 * kMiB);
  EXPECT_EQ(gpu.available_bytes, (16130 - 1024) * kMiB);
  EXPECT_EQ(gpu.mig, "");
  ASSERT_EQ(gpu.processes.size(), 1u);
  EXPECT_EQ(gpu.processes[0].pid, 4711);
  EXPECT_EQ(gpu.processes[0].name, "python train.py");
  EXPECT_EQ(gpu.processes[0].memory_bytes, 1013 * kMiB);
}

TEST(NvidiaSmiTable, ReadsTheVersionsOfNewDrivers) {
  const Topology topology =
      Read(MakeNvidiaSmiTableFormat(),
           "| NVIDIA-SMI 610.10      KMD Version: 610.10      CUDA UMD Version: 13.3     |\n"
           "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. "
           "ECC |\n"
           "|   2  NVIDIA B200                    On  |   0000000A:1C:00.0 Off |                   "
           " 0 |\n"
           "| N/A   29C    P0            162W / 1000W |     600MiB / 183359MiB |      0%      "
           "Default |\n"
           "|                                         |                        |              "
           "Enabled |\n"
           "| Processes:                                                                           "
           "   |\n"
           "|    2    3    0             1779      C   /usr/bin/python3                        "
           "512MiB |\n");
  EXPECT_EQ(topology.hosts[0].software.at("driver"), "610.10");
  EXPECT_EQ(topology.hosts[0].software.at("cuda"), "13.3");
  EXPECT_EQ(topology.devices[0].id, "cuda:2");
  EXPECT_EQ(topology.devices[0].pci_bus_id, "000a:1c:00.0");
  EXPECT_EQ(topology.devices[0].mig, "on");
  ASSERT_EQ(topology.devices[0].processes.size(), 1u);
  EXPECT_EQ(topology.devices[0].processes[0].pid, 1779);
}

TEST(NvidiaSmiTable, RefusesAGpuThatIsThereTwice) {
  const std::string row = "|   0  NVIDIA L4  Off | 00000000:00:1B.0 Off | 0 |\n";
  EXPECT_THAT(Refusal(MakeNvidiaSmiTableFormat(), row + row), HasSubstr("box.txt:2: GPU 0"));
}

TEST(NvidiaSmiCsv, ReadsValuesWithAndWithoutUnits) {
  for (const char* text : {"index, memory.total [MiB], memory.used [MiB]\n1, 24564 MiB, 564 MiB\n",
                           "index, memory.total, memory.used\n1, 24564, 564\n"}) {
    const Topology topology = Read(MakeNvidiaSmiCsvFormat(), text);
    EXPECT_EQ(topology.devices[0].id, "cuda:1");
    EXPECT_EQ(topology.devices[0].memory_bytes, 24564 * kMiB) << text;
    EXPECT_EQ(topology.devices[0].available_bytes, 24000 * kMiB) << text;
  }
}

TEST(NvidiaSmiCsv, TakesNothingFromWhatIsNotStated) {
  const Topology topology = Read(MakeNvidiaSmiCsvFormat(),
                                 "name, uuid, memory.total [MiB], pcie.link.gen.max\n"
                                 "GeForce GT 710, GPU-1, [Not Supported], [N/A]\n");
  EXPECT_EQ(topology.devices[0].memory_bytes, 0);
  EXPECT_EQ(topology.devices[0].pcie_generation, 0);
  EXPECT_EQ(topology.devices[0].sources.count("memory_bytes"), 0u);
}

TEST(NvidiaSmiCsv, KnowsTheGenerationOfAnIdleCardFromItsMost) {
  const std::string header = "index, pstate, pcie.link.gen.current, pcie.link.gen.max\n";
  EXPECT_EQ(Read(MakeNvidiaSmiCsvFormat(), header + "0, P8, 1, 4\n").devices[0].pcie_generation, 4);
  EXPECT_EQ(Read(MakeNvidiaSmiCsvFormat(), header + "0, P0, 3, 4\n").devices[0].pcie_generation, 3);
  const Topology idle = Read(MakeNvidiaSmiCsvFormat(), "index, pcie.link.gen.current\n0, 1\n");
  EXPECT_EQ(idle.devices[0].pcie_generation, 0);
}

TEST(NvidiaSmiCsv, SaysThatTheHeaderIsMissing) {
  const std::string rows = "0, NVIDIA L4, 8.9, 23034 MiB\n1, NVIDIA L4, 8.9, 23034 MiB\n";
  EXPECT_TRUE(MakeNvidiaSmiCsvFormat()->Matches(rows));
  EXPECT_THAT(Refusal(MakeNvidiaSmiCsvFormat(), rows),
              AllOf(HasSubstr("box.txt:1: values without the line that names the columns"),
                    HasSubstr("noheader")));
}

TEST(NvidiaSmiCsv, RefusesARowThatIsCut) {
  EXPECT_THAT(Refusal(MakeNvidiaSmiCsvFormat(),
                      "index, name, memory.total [MiB]\n0, NVIDIA L4, 23034 MiB\n1, NVIDIA L4\n"),
              HasSubstr("box.txt:3: wanted 3 values, found 2"));
}

TEST(NvidiaSmiCsv, RefusesAValueThatIsNone) {
  const auto refusal = [](const std::string& column, const std::string& value) {
    return Refusal(MakeNvidiaSmiCsvFormat(),
                   "name, " + column + "\nNVIDIA L4, [N/A]\nNVIDIA L4, " + value + "\n");
  };
  for (const char* value : {"abc MiB", "-5 MiB", "23034 GiB", "9999999999999999999 MiB"}) {
    EXPECT_THAT(
        refusal("memory.total [MiB]", value),
        AllOf(HasSubstr("box.txt:3: wanted memory.total such as \"23034 MiB\""), HasSubstr(value)));
  }
  EXPECT_THAT(refusal("memory.free [MiB]", "abc"), HasSubstr("box.txt:3: wanted memory.free"));
  EXPECT_THAT(refusal("memory.used [MiB]", "-1 MiB"), HasSubstr("box.txt:3: wanted memory.used"));
  EXPECT_THAT(refusal("index", "one"), HasSubstr("box.txt:3: wanted index"));
  EXPECT_THAT(refusal("pcie.link.width.current", "x"), HasSubstr("box.txt:3: wanted pcie.link"));
  EXPECT_THAT(refusal("pcie.link.gen.max", "1024"), HasSubstr("box.txt:3: wanted pcie.link.gen"));
  EXPECT_THAT(refusal("pci.bus_id", "1:2:3"), HasSubstr("box.txt:3: wanted pci.bus_id"));
}

TEST(NvidiaSmiCsv, TakesAReasonForAValueThatIsMissing) {
  for (const char* value : {"", "N/A", "[N/A]", "[Not Supported]", "[Unknown Error]",
                            "[GPU is lost]", "[Reset Required]"}) {
    const Topology topology = Read(MakeNvidiaSmiCsvFormat(),
                                   absl::StrCat("name, memory.total [MiB], index, gpu_bus_id\n",
                                                "NVIDIA L4, ", value, ", ", value, ", ", value));
    ASSERT_EQ(topology.devices.size(), 1u) << value;
    EXPECT_EQ(topology.devices[0].sources.count("memory_bytes"), 0u) << value;
  }
}

TEST(NvidiaSmiCsv, IsNotAListOfProcesses) {
  EXPECT_FALSE(
      MakeNvidiaSmiCsvFormat()->Matches("pid, name, used_memory [MiB]\n1, python, 10 MiB\n"));
}

constexpr char kQuery[] =
    "==============NVSMI LOG==============\n\nDriver Version : 550.1\nCUDA Version : 12.4\n\n"
    "Attached GPUs                             : 2\n"
    "GPU 00000000:17:00.0\n"
    "    Product Name                          : NVIDIA A100\n"
    "    Performance State                     : P0\n"
    "    MIG Mode\n        Current                           : Enabled\n"
    "    MIG Device\n        Index                             : 0\n"
    "        FB Memory Usage\n            Total                         : 9856 MiB\n"
    "    PCI\n        Device Id                         : 0x20B010DE\n"
    "        GPU Link Info\n            PCIe Generation\n"
    "                Max                       : 4\n"
    "                Current                   : 3\n"
    "            Link Width\n                Max                       : 16x\n"
    "                Current                   : 8x\n"
    "    FB Memory Usage\n        Total                             : 40960 MiB\n"
    "        Free                              : 40000 MiB\n"
    "    BAR1 Memory Usage\n        Total                             : 65536 MiB\n"
    "    Processes\n        GPU instance ID                   : N/A\n"
    "        Process ID                        : 77\n"
    "            Type                          : C\n"
    "            Name                          : python\n"
    "            Used GPU Memory               : 512 MiB\n";

TEST(NvidiaSmiQuery, TellsSectionsApart) {
  const Topology topology = Read(MakeNvidiaSmiQueryFormat(), kQuery);
  ASSERT_EQ(topology.devices.size(), 1u);
  const DeviceInfo& gpu = topology.devices[0];
  EXPECT_EQ(gpu.memory_bytes, 40960 * kMiB);  // neither BAR1's nor the MIG device's
  EXPECT_EQ(gpu.available_bytes, 40000 * kMiB);
  EXPECT_EQ(gpu.pci_id, "10de:20b0");
  EXPECT_EQ(gpu.mig, "on");
  EXPECT_EQ(gpu.pcie_max_generation, 4);
  EXPECT_EQ(gpu.pcie_generation, 3);  // busy (P0), so this is what the link runs at
  EXPECT_EQ(gpu.pcie_width, 8);
  EXPECT_EQ(gpu.pcie_max_width, 16);
  ASSERT_EQ(gpu.processes.size(), 1u);
  EXPECT_EQ(gpu.processes[0].pid, 77);
  EXPECT_EQ(gpu.processes[0].name, "python");
  EXPECT_EQ(gpu.processes[0].memory_bytes, 512 * kMiB);
  EXPECT_THAT(topology.notes, ElementsAre(HasSubstr("2 GPUs are attached, and 1")));
}

TEST(NvidiaSmiQuery, RefusesACardThatIsDescribedTwice) {
  EXPECT_THAT(Refusal(MakeNvidiaSmiQueryFormat(), std::string(kQuery) + kQuery),
              HasSubstr("0000:17:00.0 is described in line 7 already"));
}

// The plain table, then the matrix, in one paste.
TEST(Paste, GivesTheFactsOfAllItsParts) {
  const auto topology = ParseTopologyText(
      std::string("$ nvidia-smi\n") + kOldTable +
          "$ nvidia-smi topo -m\n\tGPU0\tNIC0\tCPU Affinity\tNUMA Affinity\n"
          "GPU0\t X \tPIX\t0-15\t0\nNIC0\tPIX\t X\n\nNIC Legend:\n\n  NIC0: mlx5_3\n"
          "$ nvidia-smi -L\nGPU 0: Tesla V100-SXM2-16GB (UUID: GPU-77)\n",
      "paste.txt");
  ASSERT_TRUE(topology.ok()) << topology.status();
  ASSERT_EQ(topology->devices.size(), 1u);
  const DeviceInfo& gpu = topology->devices[0];
  EXPECT_EQ(gpu.uuid, "GPU-77");
  EXPECT_EQ(gpu.name, "Tesla V100-SXM2-16GB");  // not the one that the table cuts
  EXPECT_EQ(gpu.memory_bytes, 16130 * kMiB);
  EXPECT_EQ(gpu.pci_bus_id, "0000:00:1b.0");
  EXPECT_EQ(gpu.numa_node, 0);
  EXPECT_EQ(gpu.sources.at("numa_node"), "nvidia-smi topo -m");
  EXPECT_EQ(gpu.sources.at("memory_bytes"), "nvidia-smi");
  ASSERT_EQ(topology->nics.size(), 1u);
  EXPECT_EQ(topology->nics[0].name, "mlx5_3");
  EXPECT_EQ(topology->hosts[0].software.at("driver"), "418.67");
  EXPECT_EQ(topology->source, "paste.txt");
}

TEST(Paste, SaysWhatAnUnreadableTextIs) {
  const auto message = [](const std::string& text) {
    return std::string(ParseTopologyText(text, "a.txt").status().message());
  };
  EXPECT_THAT(message(""), HasSubstr("found an empty file"));
  EXPECT_THAT(message("hello"), HasSubstr("found something else"));
  EXPECT_THAT(message("\tGPU0\tGPU1\tCPU Affinity\n"), HasSubstr("found nvidia-smi text of which"));
  EXPECT_THAT(message("<?xml version=\"1.0\"?>\n<nvidia_smi_log/>"), HasSubstr("without -x"));
  EXPECT_THAT(message("<html/>"), HasSubstr("found other XML"));
  EXPECT_THAT(message("\xFF\xFEG\0P\0"), HasSubstr("UTF-16"));
  EXPECT_THAT(message("{\"a\": 1}"), HasSubstr("tprun_topology"));
}

}  // namespace
}  // namespace tprun
