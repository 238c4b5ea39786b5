#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "topology/detect_gpus.h"

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
  EXPECT_TRUE(detected.nvlinks.empty());
  EXPECT_THAT(detected.notes, Contains(HasSubstr("4 of its 16 PCIe lanes")));
  EXPECT_THAT(detected.notes, Contains(HasSubstr("CUDA_DEVICE_ORDER")));
}

TEST_F(Nvml, NvlinkPairSumsItsLinks) {
  const DetectedGpus detected = Detect("pair");
  ASSERT_EQ(detected.gpus.size(), 3);
  ASSERT_EQ(detected.nvlinks.size(), 1);
  EXPECT_EQ(detected.nvlinks[0].a, 0);
  EXPECT_EQ(detected.nvlinks[0].b, 2);
  EXPECT_EQ(detected.nvlinks[0].kind, LinkKind::kNvlink);
  EXPECT_EQ(detected.nvlinks[0].bandwidth_bytes_per_s, 56.25e9);
}

TEST_F(Nvml, SwitchJoinsAllAtTheNarrowerRate) {
  const DetectedGpus detected = Detect("switch");
  ASSERT_EQ(detected.nvlinks.size(), 3);
  EXPECT_EQ(detected.nvlinks[0].bandwidth_bytes_per_s, 450e9);  // 0-1
  EXPECT_EQ(detected.nvlinks[1].bandwidth_bytes_per_s, 225e9);  // 0-2, half of the links are down
}

TEST_F(Nvml, VisibleDevicesRenumberCardsAndLinks) {
  const DetectedGpus detected = Detect("pair", {.cuda_visible_devices = "2,0"});
  ASSERT_EQ(detected.gpus.size(), 2);
  EXPECT_EQ(detected.gpus[0].id, "cuda:0");
  EXPECT_EQ(detected.gpus[0].uuid, "GPU-3");
  EXPECT_EQ(detected.gpus[1].uuid, "GPU-1");
  ASSERT_EQ(detected.nvlinks.size(), 1);
  EXPECT_EQ(detected.nvlinks[0].a, 0);
  EXPECT_EQ(detected.nvlinks[0].b, 1);
  EXPECT_THAT(detected.notes, Contains(HasSubstr("shows 2 of 3")));
  EXPECT_THAT(Detect("pair", {.cuda_visible_devices = ""}).gpus, IsEmpty());
}

TEST_F(Nvml, NumaNodeComesFromSysfs) {
  const std::string root = testing::TempDir() + "/nvml_sysfs";
  std::string path = root;
  mkdir(path.c_str(), 0755);
  for (const char* part : {"sys", "bus", "pci", "devices", "0000:b3:00.0"}) {
    path += std::string("/") + part;
    mkdir(path.c_str(), 0755);
  }
  ASSERT_TRUE(WriteFile(path + "/numa_node", "1\n").ok());
  const DetectedGpus detected = Detect("unlike", {.sysfs_root = root});
  ASSERT_EQ(detected.gpus.size(), 2);
  EXPECT_EQ(detected.gpus[0].numa_node, -1);
  EXPECT_EQ(detected.gpus[1].numa_node, 1);
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
    return SelectVisible(value, uuids, notes);
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
