// Variants of hwloc's XML of which the shared dumps have no file.

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "topology/bus_id.h"
#include "topology/cpu_list.h"
#include "topology/source.h"

namespace tprun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

Topology Read(const std::string& text) {
  EXPECT_TRUE(MakeHwlocXmlFormat()->Matches(text));
  const auto topology = MakeHwlocXmlFormat()->Parse(text, "box.xml");
  EXPECT_TRUE(topology.ok()) << topology.status() << "\n" << text;
  return topology.ok() ? *topology : Topology();
}

std::string Refusal(const std::string& text) {
  const auto topology = MakeHwlocXmlFormat()->Parse(text, "box.xml");
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(topology.status().message());
}

// A GPU below a root port of its own; its NVML view has gp_index `gp`.
std::string Gpu(const std::string& bus, int gp, const std::string& infos = "",
                const std::string& type = "0302 [10de:20b0] [10de:1463] a1") {
  const std::string number = std::to_string(gp);
  return "<object type=\"PCIDev\" gp_index=\"9" + number + "\" pci_busid=\"0000:" + bus +
         ":00.0\" pci_type=\"" + type + "\" pci_link_speed=\"0.000000\">\n" +
         "<object type=\"OSDev\" gp_index=\"" + number + "\" name=\"nvml" + number +
         "\" osdev_type=\"1\">" + infos + "</object></object>\n";
}

// One package with one NUMA node and one host bridge over `devices`.
std::string Machine(const std::string& devices, const std::string& distances = "",
                    const std::string& version = "2.0") {
  return "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology "
         "version=\"" +
         version +
         "\">\n<object type=\"Machine\" cpuset=\"0xff,,0x0\" nodeset=\"0x1\" gp_index=\"500\">\n"
         "<object type=\"Package\" cpuset=\"0xff,,0x0\" nodeset=\"0x1\" gp_index=\"501\">"
         "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0xff,,0x0\" nodeset=\"0x1\" "
         "gp_index=\"502\" local_memory=\"1024\"/>\n"
         "<object type=\"Bridge\" gp_index=\"503\" bridge_type=\"0-1\" "
         "bridge_pci=\"0000:[00-ff]\">\n" +
         devices + "</object></object></object>\n" + distances + "</topology>";
}

std::string Matrix(int count, const std::string& indexes, const std::string& values) {
  return "<distances2 type=\"OSDev\" nbobjs=\"" + std::to_string(count) +
         "\" kind=\"9\" name=\"NVLinkBandwidth\" indexing=\"gp\">\n<indexes>" + indexes +
         "</indexes>\n<u64values>" + values + "</u64values></distances2>";
}

TEST(HwlocXml, ReadsEmptyWordsOfMasks) {
  const Topology topology = Read(Machine(Gpu("01", 0)));
  EXPECT_EQ(topology.devices[1].cpus, "64-71");
  EXPECT_EQ(topology.devices[1].numa_node, 0);
  EXPECT_EQ(topology.hosts[0].memory_bytes, 1024);
}

TEST(HwlocXml, TakesNvidiaGpusOnly) {
  const Topology topology =
      Read(Machine(Gpu("01", 0) + Gpu("02", 1, "", "0300 [1a03:2000] [1a03:2000] 41") +
                   Gpu("03", 2, "", "0300 [102b:0536] [1028:04de] 04") +
                   Gpu("04", 3, "", "0380 [1002:740c] [1002:0b0c] 01") +
                   Gpu("05", 4, "", "0680 [10de:1af1] [10de:14a1] a1")));
  ASSERT_EQ(topology.devices.size(), 2u);
  EXPECT_EQ(topology.devices[1].pci_bus_id, "0000:01:00.0");
  EXPECT_THAT(topology.notes, Contains(HasSubstr("0000:04:00.0 of AMD")));
}

TEST(HwlocXml, ReadsMemoryWithAndWithoutItsUnit) {
  for (const char* size : {"16671616", "16671616KiB"}) {
    const Topology topology = Read(Machine(
        Gpu("01", 0, std::string("<info name=\"CUDAGlobalMemorySize\" value=\"") + size + "\"/>"),
        "", "3.0"));
    EXPECT_EQ(topology.devices[1].memory_bytes, 16671616 * kKiB);
  }
}

TEST(HwlocXml, TakesNoUuidOfZeros) {
  const std::string info = "<info name=\"NVIDIAUUID\" value=\"GPU-";
  EXPECT_EQ(Read(Machine(Gpu("01", 0, info + "00000000-0000\"/>"))).devices[1].uuid, "");
  EXPECT_EQ(Read(Machine(Gpu("01", 0, info + "7-1\"/>"))).devices[1].uuid, "GPU-7-1");
}

TEST(HwlocXml, ReadsNvlinksWhateverIsOnTheDiagonal) {
  for (const char* values : {"0 50000 50000 0", "1000000 50000 50000 1000000"}) {
    const Topology topology = Read(Machine(Gpu("01", 0) + Gpu("02", 1), Matrix(2, "0 1", values)));
    ASSERT_EQ(topology.links.size(), 2u);
    EXPECT_EQ(topology.links[1].count, 2);
    EXPECT_DOUBLE_EQ(topology.links[1].bandwidth_bytes_per_s, 50e9);
    EXPECT_EQ(topology.devices[1].nvlink_count, 2);
  }
}

TEST(HwlocXml, CountsLinksOfTheFirstNvlinkByTheirRate) {
  const std::string p100 = "<info name=\"GPUModel\" value=\"Tesla P100-SXM2-16GB\"/>";
  const Topology topology =
      Read(Machine(Gpu("01", 0, p100) + Gpu("02", 1, p100), Matrix(2, "0 1", "0 40000 40000 0")));
  EXPECT_EQ(topology.links[1].count, 2);
}

TEST(HwlocXml, JoinsAPowerCpuByItsNvlinks) {
  const std::string matrix =
      "<distances2hetero nbobjs=\"2\" kind=\"25\" name=\"NVLinkBandwidth\">\n"
      "<indexes length=\"20\">OSDev:0 Package:501 </indexes>\n"
      "<u64values>1000000 75000 </u64values>\n<u64values>75000 1000000 </u64values>\n"
      "</distances2hetero>";
  const Topology topology = Read(Machine(Gpu("01", 0), matrix));
  ASSERT_EQ(topology.links.size(), 1u);
  EXPECT_EQ(topology.links[0].a, 0);
  EXPECT_EQ(topology.links[0].b, 1);
  EXPECT_EQ(topology.links[0].count, 3);
}

TEST(HwlocXml, SaysThatNoMatrixDoesNotMeanNoNvlink) {
  EXPECT_THAT(Read(Machine(Gpu("01", 0))).notes, Contains(HasSubstr("it states no NVLinks")));
}

TEST(HwlocXml, DoesNotCountTheMemoryOfGpusAsTheHosts) {
  std::string text = Machine(Gpu("01", 0));
  const std::string node =
      "<object type=\"NUMANode\" os_index=\"255\" cpuset=\"0x0\" nodeset=\"0x80\" "
      "gp_index=\"600\" local_memory=\"16911433728\"/>";
  text.insert(text.find("<object type=\"Bridge\""), node);
  const Topology topology = Read(text);
  EXPECT_EQ(topology.hosts[0].numa_nodes.size(), 2u);
  EXPECT_EQ(topology.hosts[0].memory_bytes, 1024);
}

TEST(HwlocXml, TellsWhichNodesShareASocket) {
  const std::string text =
      "<?xml version=\"1.0\"?>\n<topology version=\"2.0\">\n"
      "<object type=\"Machine\" cpuset=\"0xff\" nodeset=\"0x7\" gp_index=\"1\">"
      "<object type=\"Package\" cpuset=\"0x0f\" gp_index=\"2\">"
      "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0x03\" gp_index=\"3\" local_memory=\"8\"/>"
      "<object type=\"NUMANode\" os_index=\"1\" cpuset=\"0x0c\" gp_index=\"4\" local_memory=\"8\"/>"
      "</object><object type=\"Package\" cpuset=\"0xf0\" gp_index=\"5\">"
      "<object type=\"NUMANode\" os_index=\"2\" cpuset=\"0xf0\" gp_index=\"6\" local_memory=\"8\"/>"
      "<object type=\"NUMANode\" os_index=\"3\" cpuset=\"0x0\" gp_index=\"7\" local_memory=\"8\"/>"
      "</object></object></topology>";
  const Topology topology = Read(text);
  std::vector<int> packages;
  for (const NumaNode& node : topology.hosts[0].numa_nodes) packages.push_back(node.package);
  EXPECT_THAT(packages, testing::ElementsAre(0, 0, 1, -1)) << "one without CPUs is in none";
}

TEST(HwlocXml, RefusesWhatIsBrokenWithLineAndReason) {
  EXPECT_THAT(Refusal(Machine("", "", "4.0")), HasSubstr("box.xml:3: hwloc XML of version 4.0"));
  EXPECT_THAT(Refusal("<topology version=\"2.0\"/>"), HasSubstr("box.xml:1: wanted an <object>"));
  EXPECT_THAT(Refusal("<topology><object type=\"Machine\" cpuset=\"0xzz\"/></topology>"),
              HasSubstr("box.xml:1: cpuset"));
  const std::string gpus = Gpu("01", 0) + Gpu("02", 1);
  EXPECT_THAT(Refusal(Machine(gpus, Matrix(2, "0 1", "0 50000 50000"))),
              HasSubstr("wanted 2 x 2 values of NVLinkBandwidth, found 3"));
  EXPECT_THAT(Refusal(Machine(gpus, Matrix(2, "0 7", "0 1 1 0"))), HasSubstr("not there: \"7\""));
  EXPECT_THAT(Refusal(Machine(gpus, Matrix(2, "0 1", "0 x 1 0"))), HasSubstr("found \"x\""));
  EXPECT_THAT(Refusal("<topology>\n<object>\n</topology>"), HasSubstr("box.xml:3: wanted well-"));
}

TEST(BusId, HasOneForm) {
  EXPECT_EQ(NormalBusId("00000000:1B:00.0"), "0000:1b:00.0");
  EXPECT_EQ(NormalBusId("0000:1b:00.0"), "0000:1b:00.0");
  EXPECT_EQ(NormalBusId(" 1b:00.0 "), "0000:1b:00.0");
  EXPECT_EQ(NormalBusId("00010000:01:1c.7"), "10000:01:1c.7");
  for (const char* bad :
       {"", "1b:00", "fffffff:ffff:ff", "1:2:3:4.5", "0000:1b:00.00", "x:1b:00.0"}) {
    EXPECT_EQ(NormalBusId(bad), "") << bad;
  }
  EXPECT_EQ(NormalPciId("0x10DE", "0x2684"), "10de:2684");
  EXPECT_EQ(NormalPciId("10de", ""), "");
}

TEST(CpuList, ReadsAndWritesRanges) {
  for (const char* list : {"", "0", "0-3", "0-19,40-59", "4,6,9", "0,2-17"}) {
    const auto cpus = ParseCpuList(list);
    ASSERT_TRUE(cpus.ok()) << cpus.status();
    EXPECT_EQ(FormatCpuList(*cpus), list);
  }
  for (const char* bad : {"a", "3-1", "1,1", "1,,2", "-1", "1-", "+1", "0-99999999", "2,1"}) {
    EXPECT_FALSE(ParseCpuList(bad).ok()) << bad;
  }
  EXPECT_EQ(FormatCpuList(*ParseCpuMask("0x3,,0x80000001")), "0,31,64-65");
  EXPECT_FALSE(ParseCpuMask("123456789").ok());
  EXPECT_FALSE(ParseCpuMask(std::string(5000, ',')).ok());
}

}  // namespace
}  // namespace tprun
