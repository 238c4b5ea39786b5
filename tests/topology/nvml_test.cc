#include <string>
#include <vector>

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "tests/topology/detect_fixture.h"
#include "topology/detect_gpus.h"
#include "topology/nvml_health.h"

namespace tprun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Nvml : public testing::Test {
 protected:
  DetectedGpus Detect(const char* machine, GpuSource source = {}) {
    setenv("FAKE_NVML_MACHINE", machine, 1);
    if (source.nvml_library == "libnvidia-ml.so.1") source.nvml_library = FAKE_NVML;
    return DetectGpus(source, *GpuCatalogue::Read(SourcePath("clusters/gpus.yaml")));
  }
};

std::vector<Link> Nvlinks(const DetectedGpus& detected) {
  std::vector<Link> nvlinks;
  for (const Link& link : detected.links) {
    if (link.kind == LinkKind::kNvlink) nvlinks.push_back(link);
  }
  return nvlinks;
}

TEST_F(Nvml, TwoUnlikeCards) {
  const DetectedGpus detected = Detect("unlike");
  ASSERT_EQ(detected.gpus.size(), 2);
  const DeviceInfo& big = detected.gpus[0];
  EXPECT_EQ(big.id, "cuda:0");
  EXPECT_EQ(big.name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(big.uuid, "GPU-aaaa1111-0000");
  EXPECT_EQ(big.pci_bus_id, "0000:65:00.0");
  EXPECT_EQ(big.memory_bytes, 24 * kGiB);
  EXPECT_EQ(big.available_bytes, (24000 - 300) * kMiB);
  EXPECT_EQ(big.compute_capability, "8.6");
  EXPECT_EQ(big.memory_bandwidth_bytes_per_s, 936e9);
  EXPECT_EQ(big.pcie_generation, 4) << "an idle card runs at a lower generation";
  EXPECT_EQ(big.numa_node, -1);
  EXPECT_EQ(detected.gpus[1].pcie_width, 4);
  EXPECT_EQ(detected.gpus[1].pcie_max_width, 16);
  EXPECT_TRUE(Nvlinks(detected).empty());
  EXPECT_THAT(detected.notes, Contains(HasSubstr("4 of its 16 PCIe lanes")));
  EXPECT_THAT(detected.notes, Contains(HasSubstr("CUDA_DEVICE_ORDER")));
}

TEST_F(Nvml, NvlinkPairSumsItsLinks) {
  const DetectedGpus detected = Detect("pair");
  ASSERT_EQ(detected.gpus.size(), 3);
  const std::vector<Link> nvlinks = Nvlinks(detected);
  ASSERT_EQ(nvlinks.size(), 1);
  EXPECT_EQ(nvlinks[0].a, 0);
  EXPECT_EQ(nvlinks[0].b, 2);
  EXPECT_EQ(nvlinks[0].kind, LinkKind::kNvlink);
  EXPECT_EQ(nvlinks[0].bandwidth_bytes_per_s, 56.25e9);
}

TEST_F(Nvml, SwitchJoinsAllAtTheNarrowerRate) {
  const DetectedGpus detected = Detect("switch");
  const std::vector<Link> nvlinks = Nvlinks(detected);
  ASSERT_EQ(nvlinks.size(), 3);
  EXPECT_EQ(nvlinks[0].bandwidth_bytes_per_s, 450e9);  // 0-1
  EXPECT_EQ(nvlinks[1].bandwidth_bytes_per_s, 225e9);  // 0-2, half of the links are down
}

TEST_F(Nvml, VisibleDevicesRenumberCardsAndLinks) {
  const DetectedGpus detected = Detect("pair", {.cuda_visible_devices = "2,0"});
  ASSERT_EQ(detected.gpus.size(), 2);
  EXPECT_EQ(detected.gpus[0].id, "cuda:0");
  EXPECT_EQ(detected.gpus[0].uuid, "GPU-3");
  EXPECT_EQ(detected.gpus[1].uuid, "GPU-1");
  const std::vector<Link> nvlinks = Nvlinks(detected);
  ASSERT_EQ(nvlinks.size(), 1);
  EXPECT_EQ(nvlinks[0].a, 0);
  EXPECT_EQ(nvlinks[0].b, 1);
  EXPECT_THAT(detected.notes, Contains(HasSubstr("shows 2 of 3")));
  EXPECT_THAT(Detect("pair", {.cuda_visible_devices = ""}).gpus, IsEmpty());
}

TEST_F(Nvml, SysfsTellsTheTree) {
  FakeRoot root;
  root.Pci("pci0000:64/0000:64:00.0/0000:65:00.0", "0x030000", "0x10de", "0x2204", 0);
  root.Pci("pci0000:b2/0000:b2:00.0/0000:b3:00.0", "0x030000", "0x10de", "0x2503", 1);
  const DetectedGpus detected = Detect("unlike", {.sysfs_root = root.path()});
  ASSERT_EQ(detected.gpus.size(), 2);
  EXPECT_EQ(detected.gpus[0].numa_node, 0);
  EXPECT_EQ(detected.gpus[1].numa_node, 1);
  EXPECT_THAT(detected.gpus[1].pci_bridges, ElementsAre("0000:b2:00.0"));
  EXPECT_EQ(detected.gpus[1].sources.at("pci_bridges"), "sysfs");
  EXPECT_EQ(detected.gpus[1].sources.at("numa_node"), "sysfs");
  EXPECT_EQ(Detect("unlike").gpus[0].numa_node, -1);
}

TEST_F(Nvml, FactsHaveTheirSource) {
  const DetectedGpus detected = Detect("unlike");
  const DeviceInfo& gpu = detected.gpus[0];
  EXPECT_EQ(gpu.pci_id, "10de:2204");
  EXPECT_EQ(gpu.cpus, "0-3,64-67");
  EXPECT_EQ(gpu.pcie_max_generation, 4);
  EXPECT_EQ(gpu.mig, "") << "this card does not have MIG";
  for (const char* fact : {"memory_bytes", "pci_id", "cpus", "pcie_generation", "pcie_width",
                           "compute_capability", "processes"}) {
    EXPECT_EQ(gpu.sources.at(fact), "nvml") << fact;
  }
  EXPECT_EQ(gpu.sources.at("memory_bandwidth_bytes_per_s"), "gpus.yaml");
  EXPECT_EQ(gpu.sources.count("nvlink_count"), 0);
  EXPECT_EQ(detected.software.at("driver"), "535.154.05");
  EXPECT_EQ(detected.software.at("cuda"), "12.2");
}

TEST_F(Nvml, ProcessesThatHoldMemory) {
  const DetectedGpus detected = Detect("unlike");
  const std::vector<DeviceProcess>& processes = detected.gpus[0].processes;
  ASSERT_EQ(processes.size(), 2);
  EXPECT_EQ(processes[0].pid, 4242);
  EXPECT_EQ(processes[0].name, "/usr/bin/python3");
  EXPECT_EQ(processes[0].memory_bytes, 500 * kMiB) << "computing and drawing are one process";
  EXPECT_EQ(processes[1].pid, 5151);
  EXPECT_EQ(processes[1].name, "");
  EXPECT_EQ(processes[1].memory_bytes, 0);
  EXPECT_TRUE(detected.gpus[1].processes.empty());
}

TEST_F(Nvml, LinksHaveKindCountAndPeerAccess) {
  const DetectedGpus unlike = Detect("unlike");
  ASSERT_EQ(unlike.links.size(), 1);
  EXPECT_EQ(unlike.links[0].kind, LinkKind::kSystem);
  EXPECT_EQ(unlike.links[0].source, "nvml");
  EXPECT_NEAR(unlike.links[0].bandwidth_bytes_per_s, 7.88e9, 0.01e9) << "the slower: 4 lanes";
  EXPECT_EQ(unlike.links[0].peer_access, PeerAccess::kNo);
  EXPECT_THAT(unlike.links[0].peer_access_reason, HasSubstr("chipset"));

  const DetectedGpus pair = Detect("pair");
  ASSERT_EQ(pair.links.size(), 3);
  EXPECT_EQ(pair.links[0].kind, LinkKind::kPhb);  // 0-1
  EXPECT_THAT(pair.links[0].peer_access_reason, HasSubstr("root complexes"));
  EXPECT_EQ(pair.links[1].kind, LinkKind::kNvlink);  // 0-2
  EXPECT_EQ(pair.links[1].count, 4);
  EXPECT_FALSE(pair.links[1].via_switch);
  EXPECT_EQ(pair.links[1].peer_access, PeerAccess::kYes);
  EXPECT_EQ(pair.links[1].peer_access_reason, "");
  EXPECT_EQ(pair.gpus[0].nvlink_count, 4);
  EXPECT_EQ(pair.gpus[1].nvlink_count, 0);

  const DetectedGpus joined = Detect("switch");
  EXPECT_TRUE(joined.links[0].via_switch);
  EXPECT_EQ(joined.links[0].count, 18);
  EXPECT_EQ(joined.links[1].count, 9);
}

TEST_F(Nvml, MigShowsTheInstanceThatCudaGives) {
  const DetectedGpus first = Detect("mig");
  ASSERT_EQ(first.gpus.size(), 1);
  EXPECT_EQ(first.gpus[0].uuid, "MIG-1111");
  EXPECT_EQ(first.gpus[0].mig, "3g.20gb");
  EXPECT_EQ(first.gpus[0].memory_bytes, 20 * kGiB);
  EXPECT_EQ(first.gpus[0].memory_bandwidth_bytes_per_s, 1555e9 / 2);
  ASSERT_EQ(first.gpus[0].mig_instances.size(), 2);
  EXPECT_EQ(first.gpus[0].mig_instances[1].uuid, "MIG-2222");
  EXPECT_THAT(first.notes, Contains(HasSubstr("2 MIG instances")));
  const DetectedGpus second = Detect("mig", {.cuda_visible_devices = "MIG-2"});
  ASSERT_EQ(second.gpus.size(), 1);
  EXPECT_EQ(second.gpus[0].uuid, "MIG-2222");
  EXPECT_EQ(second.gpus[0].id, "cuda:0");
}

TEST_F(Nvml, GraceIsJoinedWithItsCpu) {
  EXPECT_THAT(Detect("grace").c2c, ElementsAre(0));
  EXPECT_THAT(Detect("unlike").c2c, IsEmpty());
}

TEST_F(Nvml, AnOldDriverTellsLess) {
  const DetectedGpus detected = Detect("pair", {.nvml_library = FAKE_NVML_OLD});
  ASSERT_EQ(detected.gpus.size(), 3);
  EXPECT_EQ(detected.gpus[0].memory_bytes, 24 * kGiB);
  EXPECT_EQ(detected.gpus[0].available_bytes, 24000 * kMiB);
  EXPECT_EQ(detected.gpus[0].pcie_generation, 0);
  EXPECT_EQ(detected.gpus[0].sources.count("pcie_generation"), 0);
  EXPECT_EQ(detected.gpus[0].sources.count("processes"), 0);
  ASSERT_EQ(detected.links.size(), 3);
  for (const Link& link : detected.links) {
    EXPECT_EQ(link.kind, LinkKind::kPcie);
    EXPECT_EQ(link.peer_access, PeerAccess::kUnknown);
  }
  EXPECT_THAT(detected.notes, Contains(HasSubstr("nvmlDeviceGetP2PStatus")));
}

TEST_F(Nvml, ACardWithoutDriverIsNoticed) {
  FakeRoot root;
  root.Pci("pci0000:00/0000:00:01.0/0000:01:00.0", "0x030000", "0x10de", "0x2204", 0);
  root.Pci("pci0000:00/0000:00:02.0", "0x030000", "0x1a03", "0x2000", 0);  // a BMC's
  const DetectedGpus detected =
      Detect("unlike", {.nvml_library = "libno-such-nvml.so", .sysfs_root = root.path()});
  EXPECT_THAT(detected.notes,
              ElementsAre(HasSubstr("no NVIDIA driver"),
                          testing::AllOf(HasSubstr("10de:2204"), HasSubstr("without a driver"))));
}

TEST_F(Nvml, Health) {
  setenv("FAKE_NVML_MACHINE", "sick", 1);
  const std::vector<GpuHealth> health = ReadGpuHealth({.nvml_library = FAKE_NVML});
  ASSERT_EQ(health.size(), 2);
  EXPECT_EQ(health[0].pci_bus_id, "0000:07:00.0");
  EXPECT_EQ(health[0].pcie_generation_now, 1);
  EXPECT_EQ(health[0].pcie_generation_max, 3);
  EXPECT_EQ(health[0].pcie_generation_card, 4);
  EXPECT_EQ(health[0].pcie_width_now, 8);
  EXPECT_EQ(health[0].uncorrected_ecc_errors, 3);
  EXPECT_EQ(health[0].remapped_rows_pending, 1);
  EXPECT_EQ(health[0].retired_pages_pending, -1) << "not told";
  EXPECT_THAT(health[0].throttle_causes,
              ElementsAre("hardware slowdown", "temperature (hardware)"));
  EXPECT_EQ(health[0].fabric_state, 1);
  EXPECT_EQ(health[1].uncorrected_ecc_errors, 0);
  EXPECT_THAT(health[1].throttle_causes, IsEmpty()) << "idle is no cause";
  const std::vector<GpuHealth> old = ReadGpuHealth({.nvml_library = FAKE_NVML_OLD});
  ASSERT_EQ(old.size(), 2);
  EXPECT_EQ(old[0].pcie_generation_card, -1);
  EXPECT_TRUE(ReadGpuHealth({.nvml_library = "libno-such-nvml.so"}).empty());
}

TEST_F(Nvml, WithoutDriverThereIsANote) {
  const DetectedGpus absent = Detect("unlike", {.nvml_library = "libno-such-nvml.so"});
  EXPECT_TRUE(absent.gpus.empty());
  EXPECT_THAT(absent.notes, ElementsAre(HasSubstr("no NVIDIA driver")));
  const DetectedGpus down = Detect("down");
  EXPECT_TRUE(down.gpus.empty());
  EXPECT_THAT(down.notes, ElementsAre(HasSubstr("Driver Not Loaded")));
  const DetectedGpus broken = Detect("unlike", {.nvml_library = FAKE_NVML_BROKEN});
  EXPECT_TRUE(broken.gpus.empty());
  EXPECT_THAT(broken.notes, ElementsAre(HasSubstr("nvmlDeviceGetCount_v2")));
}

TEST(SelectVisible, FollowsCuda) {
  const std::vector<std::string> uuids = {"GPU-aaaa1111", "GPU-aabb2222", "GPU-cccc3333"};
  const auto select = [&](const char* value) {
    std::vector<std::string> notes;
    return SelectVisible(value, uuids, {"MIG-1111", "MIG-2222"}, notes);
  };
  EXPECT_THAT(select("0,1,2"), ElementsAre(0, 1, 2));
  EXPECT_THAT(select("2, 0"), ElementsAre(2, 0));
  EXPECT_THAT(select("GPU-cc,GPU-aaaa1111"), ElementsAre(2, 0));
  EXPECT_THAT(select("GPU-cc,1"), ElementsAre(2, 1));
  EXPECT_THAT(select("GPU-aa"), IsEmpty()) << "the beginning of two";
  EXPECT_THAT(select("1,-1,0"), ElementsAre(1));
  EXPECT_THAT(select("1,7,0"), ElementsAre(1));
  EXPECT_THAT(select("1,1"), IsEmpty());
  EXPECT_THAT(select(""), IsEmpty());
  EXPECT_THAT(select("-1"), IsEmpty());
  EXPECT_THAT(select("MIG-1234"), IsEmpty());
  EXPECT_THAT(select("NoDevFiles"), IsEmpty());
  EXPECT_THAT(select("MIG-22"), ElementsAre(4));
  EXPECT_THAT(select("MIG-2222,0"), ElementsAre(4, 0));
  EXPECT_THAT(select("3"), IsEmpty()) << "an index names a card, never an instance";
}

TEST(NvlinkBandwidthPerLink, ByVersion) {
  EXPECT_EQ(NvlinkBandwidthPerLink(1, "6.0"), 20e9);
  EXPECT_EQ(NvlinkBandwidthPerLink(2, "7.0"), 25e9);
  EXPECT_EQ(NvlinkBandwidthPerLink(5, "8.6"), 14.0625e9);
  EXPECT_EQ(NvlinkBandwidthPerLink(6, "9.0"), 25e9);
  EXPECT_EQ(NvlinkBandwidthPerLink(7, "10.0"), 50e9);
}

}  // namespace
}  // namespace tprun
