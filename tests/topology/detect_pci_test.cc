#include "topology/detect_pci.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/topology/detect_fixture.h"

namespace tprun {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(DetectPci, BridgesRunFromTheHostBridgeDown) {
  FakeRoot root;
  const std::string place = "pci0000:16/0000:16:02.0/0000:17:00.0/0000:18:08.0/0000:19:00.0";
  root.Pci(place, "0x030200", "0x10de", "0x2330", 0);
  root.Write("/sys/devices/" + place + "/current_link_speed", "2.5 GT/s PCIe\n");
  root.Write("/sys/devices/" + place + "/max_link_speed", "32.0 GT/s PCIe\n");
  root.Write("/sys/devices/" + place + "/current_link_width", "16\n");
  root.Write("/sys/devices/" + place + "/max_link_width", "255\n");
  root.Write("/sys/devices/" + place + "/local_cpulist", "0-15,32-47\n");
  root.Link("/sys/devices/" + place + "/driver", "/sys/bus/pci/drivers/nouveau");
  const PciFunction function = ReadPciFunction(root.path(), "0000:19:00.0");
  EXPECT_THAT(function.bridges, ElementsAre("0000:16:02.0", "0000:17:00.0", "0000:18:08.0"));
  EXPECT_EQ(function.host_bridge, "0000:16");
  EXPECT_EQ(function.pci_id, "10de:2330");
  EXPECT_EQ(function.device_class, 0x030200);
  EXPECT_EQ(function.driver, "nouveau");
  EXPECT_EQ(function.numa_node, 0);
  EXPECT_EQ(function.cpus, "0-15,32-47");
  EXPECT_EQ(function.generation, 1);
  EXPECT_EQ(function.max_generation, 5);
  EXPECT_EQ(function.width, 16);
  EXPECT_EQ(function.max_width, 0) << "255 is a link that is down";
}

TEST(DetectPci, AnAbsentFunctionIsUnknown) {
  FakeRoot root;
  const PciFunction function = ReadPciFunction(root.path(), "0000:01:00.0");
  EXPECT_EQ(function.pci_id, "");
  EXPECT_EQ(function.numa_node, -1);
  EXPECT_EQ(function.generation, 0);
  EXPECT_THAT(function.bridges, IsEmpty());
  EXPECT_THAT(ListPciFunctions(root.path(), 0x03), IsEmpty());
}

TEST(DetectPci, ListsByClass) {
  FakeRoot root;
  root.Pci("pci0000:00/0000:00:02.0", "0x030000");
  root.Pci("pci0000:00/0000:00:01.0", "0x030200");
  root.Pci("pci0000:00/0000:00:03.0", "0x020000");
  std::vector<std::string> ids;
  for (const PciFunction& f : ListPciFunctions(root.path(), 0x03)) ids.push_back(f.bus_id);
  EXPECT_THAT(ids, ElementsAre("0000:00:01.0", "0000:00:02.0"));
}

TEST(DetectPci, Distance) {
  const PciPlace a = {"0000:19:00.0", {"0000:16:02.0", "0000:17:00.0", "0000:18:08.0"}, 0};
  const PciPlace same_switch = {
      "0000:1a:00.0", {"0000:16:02.0", "0000:17:00.0", "0000:18:0c.0"}, 0};
  const PciPlace next_switch = {
      "0000:1e:00.0",
      {"0000:16:02.0", "0000:17:00.0", "0000:18:10.0", "0000:1c:00.0", "0000:1d:00.0"},
      0};
  const PciPlace same_host_bridge = {"0000:20:00.0", {"0000:16:04.0"}, 0};
  const PciPlace same_node = {"0000:33:00.0", {"0000:32:00.0"}, 0};
  const PciPlace other_node = {"0000:99:00.0", {"0000:98:00.0"}, 1};
  const PciPlace nowhere = {"0001:01:00.0", {}, -1};
  EXPECT_EQ(PciDistance(a, same_switch), LinkKind::kPix);
  EXPECT_EQ(PciDistance(a, next_switch), LinkKind::kPxb);
  EXPECT_EQ(PciDistance(next_switch, a), LinkKind::kPxb);
  EXPECT_EQ(PciDistance(a, same_host_bridge), LinkKind::kPhb);
  EXPECT_EQ(PciDistance(a, same_node), LinkKind::kNode);
  EXPECT_EQ(PciDistance(a, other_node), LinkKind::kSystem);
  EXPECT_EQ(PciDistance(a, nowhere), LinkKind::kPcie);
}

TEST(DetectPci, GenerationOfSpeed) {
  EXPECT_EQ(PcieGenerationOfSpeed("2.5 GT/s PCIe"), 1);
  EXPECT_EQ(PcieGenerationOfSpeed("16.0 GT/s PCIe"), 4);
  EXPECT_EQ(PcieGenerationOfSpeed("64 GT/s"), 6);
  EXPECT_EQ(PcieGenerationOfSpeed("Unknown"), 0);
  EXPECT_EQ(PcieGenerationOfSpeed(""), 0);
  EXPECT_EQ(PcieGenerationOfSpeed("7 GT/s"), 0);
}

// A configuration space whose extended capabilities begin with one that leads to `id` at 0x148,
// with this control register.
std::string Config(unsigned id, unsigned control) {
  std::string config(4096, '\0');
  const auto put = [&](size_t at, uint32_t value) {
    for (int i = 0; i < 4; ++i) config[at + i] = static_cast<char>(value >> (8 * i));
  };
  put(0x100, 0x0001u | 1u << 16 | 0x148u << 20);  // advanced error reporting
  put(0x148, id | 1u << 16);
  put(0x14c, 0x5fu | control << 16);
  return config;
}

TEST(DetectPci, AcsRedirect) {
  FakeRoot root;
  root.Pci("pci0000:00/0000:00:01.0", "0x060400");
  const std::string config = "/sys/devices/pci0000:00/0000:00:01.0/config";
  const auto redirect = [&] { return ReadPeerRedirect(root.path(), "0000:00:01.0"); };
  EXPECT_EQ(redirect(), PeerRedirect::kUnknown);
  root.Write(config, std::string(64, '\1'));
  EXPECT_EQ(redirect(), PeerRedirect::kUnknown) << "only root sees more than 64 bytes";
  root.Write(config, Config(0x000d, 0x1d));
  EXPECT_EQ(redirect(), PeerRedirect::kYes);
  root.Write(config, Config(0x000d, 0x11));
  EXPECT_EQ(redirect(), PeerRedirect::kNo);
  root.Write(config, Config(0x0019, 0x1d));
  EXPECT_EQ(redirect(), PeerRedirect::kNo) << "has no such capability";
  // A list that leads back to itself ends.
  std::string loop(4096, '\0');
  loop[0x100] = 1;
  loop[0x103] = 0x10;
  root.Write(config, loop);
  EXPECT_EQ(redirect(), PeerRedirect::kNo);
  root.Write(config, std::string(0x10a, '\xff'));
  EXPECT_EQ(redirect(), PeerRedirect::kNo) << "cut off";
}

TEST(DetectPci, Iommu) {
  FakeRoot root;
  EXPECT_EQ(ReadIommu(root.path()), Iommu::kOff);
  root.Write("/sys/kernel/iommu_groups/0/type", "identity\n");
  EXPECT_EQ(ReadIommu(root.path()), Iommu::kPassThrough);
  root.Write("/sys/kernel/iommu_groups/1/type", "DMA-FQ\n");
  EXPECT_EQ(ReadIommu(root.path()), Iommu::kTranslating);
}

}  // namespace
}  // namespace tprun
