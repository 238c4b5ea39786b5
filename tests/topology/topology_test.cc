#include "topology/topology.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "topology/detect_host.h"
#include "topology/gpu_catalogue.h"
#include "topology/pcie.h"

namespace tprun {
namespace {

using testing::HasSubstr;

Topology Example(const char* name) {
  auto topology = ReadClusterFile(SourcePath(std::string("clusters/") + name));
  EXPECT_TRUE(topology.ok()) << topology.status();
  return *std::move(topology);
}

TEST(LocateDevice, FindsByIdAndListsWhatThereIs) {
  const Topology box = Example("rtx3090-rtx3060.yaml");
  EXPECT_EQ(LocateDevice(box, "cpu")->device, 0);
  EXPECT_EQ(LocateDevice(box, "cuda:1")->device, 2);
  EXPECT_EQ(LocateDevice(box, "desktop/cuda:1")->device, 2);
  const absl::Status status = LocateDevice(box, "cuda:2").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("there are: cpu, cuda:0, cuda:1"));
}

TEST(LocateDevice, TellsWhyThereIsNoGpu) {
  Topology box;
  box.source = "this machine";
  box.hosts.resize(1);
  box.devices.resize(1);
  box.devices[0].id = "cpu";
  box.notes = {"caches are unknown", "no NVIDIA driver, so no GPUs: libnvidia-ml.so.1"};
  EXPECT_EQ(LocateDevice(box, "cuda:0").status(),
            absl::NotFoundError("no device \"cuda:0\" in this machine; there are: cpu; no NVIDIA "
                                "driver, so no GPUs: libnvidia-ml.so.1"));
  EXPECT_EQ(LocateDevice(box, "desk").status(),
            absl::NotFoundError("no device \"desk\" in this machine; there are: cpu"));
}

TEST(LocateDevice, NeedsTheHostWhenThereAreSeveral) {
  const Topology boxes = Example("two-desktops.yaml");
  EXPECT_EQ(*LocateDevice(boxes, "desk1/cuda:0"), (DeviceRef{1, 1}));
  EXPECT_EQ(*LocateDevice(boxes, "desk0/cpu"), (DeviceRef{0, 0}));
  EXPECT_FALSE(LocateDevice(boxes, "desk2/cpu").ok());
  EXPECT_FALSE(LocateDevice(boxes, "desk01/cpu").ok());
  EXPECT_FALSE(LocateDevice(boxes, "desk/cpu").ok());
  EXPECT_FALSE(LocateDevice(boxes, "desk-1/cpu").ok());
  EXPECT_FALSE(LocateDevice(boxes, "/cpu").ok());
  const absl::Status status = LocateDevice(boxes, "cuda:0").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("desk0/cuda:0"));
}

TEST(LocateDevice, EveryIdComesBack) {
  Topology topology = Example("two-desktops.yaml");
  topology.hosts[0].count = 12;
  topology.hosts.push_back({.name = "big"});
  DeviceInfo cpu;
  cpu.id = "cpu";
  cpu.host = 1;
  topology.devices.push_back(cpu);
  const std::vector<DeviceRef> refs = AllDeviceRefs(topology);
  ASSERT_EQ(refs.size(), 25);
  EXPECT_EQ(CountHosts(topology), 13);
  EXPECT_EQ(DeviceId(topology, refs[11]), "desk11/cpu");
  EXPECT_EQ(DeviceId(topology, refs[12]), "big/cpu");
  EXPECT_EQ(DeviceId(topology, refs[24]), "desk11/cuda:0");
  for (const DeviceRef& ref : refs) {
    const auto found = LocateDevice(topology, DeviceId(topology, ref));
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, ref);
  }
  EXPECT_EQ(AllDeviceRefs(topology, 7).size(), 7);
}

TEST(LinkKindName, IsTheInverseOfParse) {
  for (LinkKind kind :
       {LinkKind::kNvlink, LinkKind::kC2c, LinkKind::kPix, LinkKind::kPxb, LinkKind::kPhb,
        LinkKind::kNode, LinkKind::kPcie, LinkKind::kSystem, LinkKind::kNetwork}) {
    EXPECT_EQ(*ParseLinkKind(LinkKindName(kind)), kind);
  }
}

TEST(DetectTopology, ThisMachineIsSane) {
  const auto topology = DetectTopology();
  ASSERT_TRUE(topology.ok()) << topology.status();
  ASSERT_EQ(topology->hosts.size(), 1);
  ASSERT_GE(topology->devices.size(), 1);
  const DeviceInfo& cpu = topology->devices[0];
  EXPECT_EQ(cpu.id, "cpu");
  EXPECT_FALSE(cpu.name.empty());
  EXPECT_GE(cpu.cores, 1);
  EXPECT_GE(cpu.threads, cpu.cores);
  EXPECT_GT(cpu.memory_bytes, int64_t{64} << 20);
  EXPECT_GT(cpu.available_bytes, 0);
  EXPECT_LE(cpu.available_bytes, cpu.memory_bytes);
  EXPECT_GT(cpu.memory_bandwidth_bytes_per_s, 1e9);
  EXPECT_EQ(cpu.measured.memory_bandwidth_bytes_per_s, 0);
  for (const NumaNode& node : topology->hosts[0].numa_nodes) {
    EXPECT_LE(node.available_bytes, node.memory_bytes);
    EXPECT_FALSE(node.cpus.empty());
  }
}

TEST(MeasureMemoryBandwidth, IsWithinReason) {
  const double rate = MeasureMemoryBandwidth(1, 64 << 20);
  EXPECT_GT(rate, 0.2e9);
  EXPECT_LT(rate, 10e12);
  EXPECT_GT(MeasureMemoryBandwidth(0, 0), 0);
}

TEST(EstimateCpuBandwidth, GrowsWithCoresUpToTheChannels) {
  const auto estimate = [](const std::string& name, int cores, int packages,
                           std::vector<std::string> isa = {}) {
    DeviceInfo cpu;
    cpu.name = name;
    cpu.cores = cores;
    cpu.isa = std::move(isa);
    return EstimateCpuBandwidth(cpu, packages);
  };
  EXPECT_EQ(estimate("Intel(R) Xeon(R)", 2, 1), 34e9);  // as measured
  EXPECT_EQ(estimate("Intel(R) Xeon(R)", 96, 2), 300e9);
  EXPECT_EQ(estimate("AMD Ryzen 9", 16, 1, {"avx512_bf16"}), 40e9);
  EXPECT_EQ(estimate("AMD EPYC 7543", 32, 1), 150e9);
  // Two cores of a Zen 5 in a virtual machine, which hides the number: 50 to 79 measured.
  EXPECT_EQ(estimate("AMD EPYC", 2, 1, {"avx2", "avx512_bf16"}), 60e9);
  EXPECT_EQ(estimate("AMD EPYC", 2, 1, {"avx2"}), 34e9);
  EXPECT_EQ(estimate("AMD EPYC 9654", 8, 1), 80e9);
  EXPECT_EQ(estimate("AMD EPYC 9654", 192, 2), 600e9);
  EXPECT_EQ(estimate("", 0, 0), 17e9);
}

TEST(Pcie, NominalRates) {
  EXPECT_NEAR(PcieBandwidth(3, 16), 15.75e9, 0.01e9);
  EXPECT_NEAR(PcieBandwidth(5, 16), 63.0e9, 0.1e9);
  EXPECT_EQ(PcieBandwidth(0, 16), 0);
  EXPECT_EQ(PcieBandwidth(4, 64), 0);
  EXPECT_EQ(ParsePcie("4x8")->width, 8);
  for (const char* text : {"", "4", "x16", "4x", "4x16x1", "16GB"}) {
    EXPECT_FALSE(ParsePcie(text).ok()) << text;
  }
}

TEST(GpuCatalogue, FolderComesFromTheEnvironmentFirst) {
  setenv("TPRUN_CLUSTERS", "/nowhere", 1);
  const auto folder = ClustersDirectory();
  unsetenv("TPRUN_CLUSTERS");
  EXPECT_EQ(folder.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(folder.status().message()), HasSubstr("/nowhere"));
  EXPECT_TRUE(ClustersDirectory().ok());
}

}  // namespace
}  // namespace tprun
