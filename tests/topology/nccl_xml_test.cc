// Variants of NCCL's topology XML of which the shared dumps have no file.

#include "topology/nccl_xml.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "topology/source.h"
#include "topology/xml_reader.h"

namespace tprun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Topology Read(const std::string& text) {
  EXPECT_TRUE(MakeNcclXmlFormat()->Matches(text));
  const auto topology = MakeNcclXmlFormat()->Parse(text, "box.xml");
  EXPECT_TRUE(topology.ok()) << topology.status() << "\n" << text;
  return topology.ok() ? *topology : Topology();
}

std::string Refusal(const std::string& text) {
  const auto topology = MakeNcclXmlFormat()->Parse(text, "box.xml");
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(topology.status().message());
}

std::string Gpu(const std::string& bus_id, const std::string& inside = "",
                const std::string& attributes = "dev=\"0\"") {
  return "<pci busid=\"" + bus_id + "\" class=\"0x030200\" vendor=\"0x10DE\" device=\"0x2330\">\n" +
         "<gpu " + attributes + ">" + inside + "</gpu></pci>\n";
}

std::string System(const std::string& inside, const std::string& cpu = "numaid=\"0\"") {
  return "<!-- a comment -->\n<system version=\"2\">\n<cpu " + cpu + ">\n" + inside +
         "</cpu>\n</system>";
}

TEST(NcclXml, TakesNothingFromAMachineThatTellsNothing) {
  const Topology topology = Read(System(Gpu("0000:01:00.0"), "numaid=\"-1\""));
  ASSERT_EQ(topology.devices.size(), 2u);
  const DeviceInfo& gpu = topology.devices[1];
  EXPECT_EQ(gpu.numa_node, -1);
  EXPECT_EQ(gpu.cpus, "");
  EXPECT_EQ(gpu.pcie_generation, 0);
  EXPECT_EQ(gpu.pcie_width, 0);
  EXPECT_EQ(gpu.compute_capability, "");
  EXPECT_EQ(gpu.sources.count("numa_node"), 0u);
  EXPECT_EQ(topology.hosts[0].numa_nodes.size(), 0u);
}

TEST(NcclXml, ReadsLinkSpeedsAsTheyAreWritten) {
  NcclSystem::Pci pci;
  const auto generation = [&pci](const char* speed) {
    pci.link_speed = speed;
    return pci.pcie_generation();
  };
  EXPECT_EQ(generation("2.5 GT/s PCIe"), 1);
  EXPECT_EQ(generation("8 GT/s"), 3);
  EXPECT_EQ(generation("32 GT/s PCIe/s"), 5);
  EXPECT_EQ(generation("64.0 GT/s PCIe"), 6);
  EXPECT_EQ(generation(""), 0);
  EXPECT_EQ(generation("Unknown"), 0);
  pci.link_width = "0";
  EXPECT_EQ(pci.pcie_width(), 0);
  pci.link_width = "8";
  EXPECT_EQ(pci.pcie_width(), 8);
}

TEST(NcclXml, OrdersGpusByRank) {
  const Topology topology = Read(System(Gpu("0000:01:00.0", "", "dev=\"5\" rank=\"1\" sm=\"100\"") +
                                        Gpu("0000:02:00.0", "", "dev=\"3\" rank=\"0\" sm=\"90\"")));
  ASSERT_EQ(topology.devices.size(), 3u);
  EXPECT_EQ(topology.devices[1].id, "cuda:3");
  EXPECT_EQ(topology.devices[1].compute_capability, "9.0");
  EXPECT_EQ(topology.devices[2].id, "cuda:5");
  EXPECT_EQ(topology.devices[2].compute_capability, "10.0");
}

TEST(NcclXml, CountsADirectLinkOnceThoughBothEndsListIt) {
  const Topology topology = Read(System(
      Gpu("0000:01:00.0", "<nvlink target=\"00000000:02:00.0\" count=\"4\" tclass=\"0x030200\"/>") +
      Gpu("0000:02:00.0", "<nvlink target=\"0000:01:00.0\" count=\"4\" tclass=\"0x030200\"/>",
          "dev=\"1\"")));
  ASSERT_EQ(topology.links.size(), 2u);
  EXPECT_EQ(topology.links[0].kind, LinkKind::kPhb);
  EXPECT_EQ(topology.links[1].kind, LinkKind::kNvlink);
  EXPECT_EQ(topology.links[1].count, 4);
  EXPECT_FALSE(topology.links[1].via_switch);
  EXPECT_EQ(topology.devices[1].nvlink_count, 4);
}

TEST(NcclXml, KnowsASwitchThatTheVmDoesNotShow) {
  const std::string link = "<nvlink target=\"fffffff:ffff:ff\" count=\"18\" tclass=\"0x068000\"/>";
  const Topology topology =
      Read(System(Gpu("0000:01:00.0", link) + Gpu("0000:02:00.0", link, "dev=\"1\"")));
  ASSERT_EQ(topology.links.size(), 2u);
  EXPECT_TRUE(topology.links[1].via_switch);
  EXPECT_EQ(topology.links[1].count, 18);
}

TEST(NcclXml, JoinsAPowerCpuByItsNvlinks) {
  const Topology topology = Read(System(
      Gpu("0004:04:00.0", "<nvlink target=\"0004:00:01.0\" count=\"3\" tclass=\"0x068001\"/>")));
  ASSERT_EQ(topology.links.size(), 1u);
  EXPECT_EQ(topology.links[0].a, 0);
  EXPECT_EQ(topology.devices[0].kind, DeviceKind::kCpu);
  EXPECT_EQ(topology.links[0].kind, LinkKind::kNvlink);
  EXPECT_EQ(topology.links[0].count, 3);
}

TEST(NcclXml, JoinsGraceAndHopper) {
  const Topology topology = Read(System(Gpu("0009:01:00.0", "<c2c bw=\"44712\" count=\"10\"/>")));
  ASSERT_EQ(topology.links.size(), 1u);
  EXPECT_EQ(topology.links[0].kind, LinkKind::kC2c);
  EXPECT_DOUBLE_EQ(topology.links[0].bandwidth_bytes_per_s, 447.12e9);
}

TEST(NcclXml, TellsPathsByTheBridgesInBetween) {
  const std::string bridge = "<pci busid=\"0000:0";
  const Topology topology = Read(System(bridge + "a:00.0\">" + Gpu("0000:01:00.0") +
                                        Gpu("0000:02:00.0", "", "dev=\"1\"") + bridge +
                                        "b:00.0\">" + Gpu("0000:03:00.0", "", "dev=\"2\"") +
                                        "</pci></pci>" + Gpu("0000:04:00.0", "", "dev=\"3\"")));
  std::vector<LinkKind> kinds;
  for (const Link& link : topology.links) kinds.push_back(link.kind);
  EXPECT_THAT(kinds, ElementsAre(LinkKind::kPix, LinkKind::kPxb, LinkKind::kPhb, LinkKind::kPxb,
                                 LinkKind::kPhb, LinkKind::kPhb));
  EXPECT_THAT(topology.devices[3].pci_bridges, ElementsAre("0000:0a:00.0", "0000:0b:00.0"));
}

TEST(NcclXml, ReadsNicsButNotVirtualNets) {
  const Topology topology = Read(System(
      "<pci busid=\"0000:05:00.0\" class=\"0x020700\"><nic>"
      "<net name=\"mlx5_0\" speed=\"200000\"/><net speed=\"-1\" name=\"mlx5_1\"/></nic></pci>"
      "<pci busid=\"0000:06:00.0\"><nic><net name=\"efa0\"/></nic></pci>"
      "<nic><net name=\"docker0\" speed=\"10000\"/></nic>"));
  ASSERT_EQ(topology.nics.size(), 2u);
  EXPECT_THAT(topology.nics[0].interfaces, ElementsAre("mlx5_0", "mlx5_1"));
  EXPECT_DOUBLE_EQ(topology.nics[0].bandwidth_bytes_per_s, 25e9);
  EXPECT_EQ(topology.nics[1].name, "efa0");
  EXPECT_EQ(topology.nics[1].bandwidth_bytes_per_s, 0);
}

TEST(NcclXml, ReportsAMistypedAffinity) {
  const Topology topology = Read(System(Gpu("0000:01:00.0"), "numaid=\"0\" affinity=\"ffff,fg\""));
  EXPECT_EQ(topology.devices[1].cpus, "");
  EXPECT_THAT(topology.notes, Contains(HasSubstr("box.xml:3: the affinity is left out")));
  const Topology lone = Read(System(Gpu("0000:01:00.0"), "numaid=\"0\" affinity=\"ffff\""));
  EXPECT_EQ(lone.devices[1].cpus, "0-15");
}

TEST(NcclXml, ReportsALinkThatItCannotRead) {
  const auto notes = [](const std::string& speed, const std::string& width) {
    const std::string attributes = "link_speed=\"" + speed + "\" link_width=\"" + width + "\" ";
    std::string gpu = Gpu("0000:01:00.0");
    return Read(System(gpu.insert(gpu.find("class="), attributes))).notes;
  };
  EXPECT_THAT(notes("banana", "16"),
              Contains(HasSubstr("box.xml:4: the link_speed is left out: \"banana\"")));
  EXPECT_THAT(notes("-8 GT/s", "16"), Contains(HasSubstr("box.xml:4: the link_speed")));
  for (const char* width : {"many", "-1", "33"}) {
    EXPECT_THAT(notes("8 GT/s", width), Contains(HasSubstr("box.xml:4: the link_width is left")));
  }
  for (const char* speed : {"", "0", "Unknown", "Unknown speed", "16.0 GT/s PCIe"}) {
    for (const char* width : {"", "0", "16", "255", "Unknown"}) {
      EXPECT_THAT(notes(speed, width), Not(Contains(HasSubstr("link_")))) << speed << " " << width;
    }
  }
}

TEST(NcclXml, KeepsTheHostsOfAFileAboutSeveralApart) {
  const std::string gpu = Gpu("0000:01:00.0");
  const Topology topology =
      Read("<system version=\"1\"><cpu host_hash=\"0xa\" numaid=\"0\">" + gpu +
           "</cpu><cpu host_hash=\"0xb\" numaid=\"0\">" + gpu + "</cpu></system>");
  ASSERT_EQ(topology.hosts.size(), 2u);
  ASSERT_EQ(topology.devices.size(), 4u);
  EXPECT_EQ(topology.devices[3].host, 1);
  EXPECT_EQ(topology.links.size(), 0u);
}

TEST(NcclXml, RefusesWhatIsBrokenWithLineAndReason) {
  EXPECT_THAT(Refusal("<system>\n<cpu>\n</system>"),
              HasSubstr("box.xml:3: wanted well-formed XML"));
  EXPECT_THAT(Refusal("<system>\n<cpu>\n"), HasSubstr("box.xml:3"));
  EXPECT_THAT(Refusal(System(Gpu("1:2:3"))), HasSubstr("box.xml:4: wanted a busid"));
  EXPECT_THAT(Refusal(System(Gpu("0000:01:00.0") + Gpu("0000:01:00.0"))),
              HasSubstr("box.xml:6: 0000:01:00.0 is there twice"));
  EXPECT_THAT(Refusal("<sys/>"), HasSubstr("box.xml:1: wanted <system>, found <sys>"));
}

// "Billion laughs", and a file of the machine that reads it.
TEST(XmlReader, RefusesEntities) {
  const std::string laughs =
      "<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY c \"&b;&b;&b;&b;\">]>\n<a>&c;</a>";
  const std::string file = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/hostname\">]>\n<a>&b;</a>";
  for (const std::string& text : {laughs, file}) {
    EXPECT_THAT(std::string(ParseXml(text, "x").status().message()),
                HasSubstr("x:1: wanted well-formed XML: it declares entities"));
  }
  EXPECT_FALSE(ParseXml("<!DOCTYPE a SYSTEM \"x.dtd\"><a>&unknown;</a>", "x").ok());
  EXPECT_TRUE(ParseXml("<!DOCTYPE a SYSTEM \"x.dtd\"><a>&amp;</a>", "x").ok());
}

TEST(XmlReader, BoundsDepthAndSize) {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "<a>";
  EXPECT_THAT(std::string(ParseXml(deep, "x").status().message()), HasSubstr("deeper than 64"));
  std::string wide = "<a>";
  for (int i = 0; i < 200000; ++i) wide += "<b/>";
  EXPECT_THAT(std::string(ParseXml(wide + "</a>", "x").status().message()),
              HasSubstr("200000 elements"));
}

TEST(XmlReader, KnowsTheRootBehindCommentsAndDeclarations) {
  EXPECT_EQ(
      XmlRootName("\n<?xml version=\"1.0\"?>\n<!-- <b> -->\n<!DOCTYPE a SYSTEM \"a.dtd\">\n<a/>"),
      "a");
  EXPECT_EQ(XmlRootName("a"), "");
  EXPECT_EQ(XmlRootName("<!-- "), "");
}

}  // namespace
}  // namespace tprun
