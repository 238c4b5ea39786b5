#include "topology/gpu_catalogue.h"

#include <map>
#include <string>

#include "absl/strings/match.h"
#include "base/json.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "topology/derive_links.h"
#include "topology/source.h"

namespace tprun {
namespace {

using testing::HasSubstr;

GpuCatalogue Catalogue() {
  auto catalogue = GpuCatalogue::ReadDefault();
  EXPECT_TRUE(catalogue.ok()) << catalogue.status();
  return *std::move(catalogue);
}

TEST(GpuCatalogue, FindsUnderTheNamesPeopleUse) {
  const auto catalogue = GpuCatalogue::ReadDefault();
  ASSERT_TRUE(catalogue.ok()) << catalogue.status();
  EXPECT_GE(catalogue->gpus().size(), 25);
  for (const char* name : {"NVIDIA GeForce RTX 3090", "RTX 3090", "rtx3090", "GeForce RTX 3090"}) {
    const GpuFacts* facts = catalogue->Find(name);
    ASSERT_NE(facts, nullptr) << name;
    EXPECT_EQ(facts->compute_capability, "8.6");
    EXPECT_EQ(facts->memory_bandwidth_bytes_per_s, 936e9);
  }
  EXPECT_EQ(catalogue->Find("H200")->nvlink_bandwidth_bytes_per_s, 450e9);
  EXPECT_EQ(catalogue->Find("RTX 3091"), nullptr);
  EXPECT_EQ(catalogue->Find(""), nullptr);
}

TEST(GpuCatalogue, FindsByPciIdAndTellsOneNameApart) {
  const GpuCatalogue catalogue = Catalogue();
  EXPECT_EQ(catalogue.FindPciId("10DE:2204")->name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(catalogue.FindPciId("10de:ffff"), nullptr);
  EXPECT_EQ(catalogue.FindPciId("10de:220a")->memory_bytes, 12 * kGiB);
  EXPECT_EQ(catalogue.Find("RTX 3080", 12 * kGiB)->memory_bandwidth_bytes_per_s, 912e9);
  EXPECT_EQ(catalogue.Find("RTX 3080")->memory_bandwidth_bytes_per_s, 760e9);
}

TEST(GpuCatalogue, NearestIsOfTheSameCapability) {
  const GpuCatalogue catalogue = Catalogue();
  EXPECT_EQ(catalogue.Nearest("8.6", 24 * kGiB)->name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(catalogue.Nearest("8.6", 12 * kGiB)->compute_capability, "8.6");
  EXPECT_NE(catalogue.Nearest("99.9", 8 * kGiB), nullptr);
  EXPECT_EQ(GpuCatalogue().Nearest("8.6", 0), nullptr);
}

// The facts that the catalogue was made from.
TEST(GpuCatalogue, HasTheGatheredFacts) {
  TPRUN_NEEDS_TEST_DATA();
  const auto facts = ReadJsonFile(TestDataDirectory() + "/measured/gpus.json");
  ASSERT_TRUE(facts.ok()) << facts.status();
  const GpuCatalogue catalogue = Catalogue();
  ASSERT_EQ(catalogue.gpus().size(), (*facts)["gpus"].size());
  const std::map<std::string, std::string> types = {
      {"fp32_tflops", "fp32"},        {"fp16_tensor_tflops_fp32acc", "fp16"},
      {"bf16_tensor_tflops", "bf16"}, {"fp8_tensor_tflops", "fp8"},
      {"fp4_tensor_tflops", "fp4"},   {"int8_tensor_tops", "int8"}};
  for (size_t i = 0; i < catalogue.gpus().size(); ++i) {
    const GpuFacts& gpu = catalogue.gpus()[i];
    const Json& fact = (*facts)["gpus"][i];
    const std::string name = fact["name"].get<std::string>();
    if (!absl::StrContains(name, "(")) {
      EXPECT_EQ(catalogue.Find(name, gpu.memory_bytes), &gpu) << name;
    }
    if (fact.contains("vram_bytes")) {
      EXPECT_EQ(gpu.memory_bytes, fact["vram_bytes"].get<int64_t>()) << name;
    }
    EXPECT_EQ(gpu.memory_bandwidth_bytes_per_s, fact["mem_bw_gb_s"].get<double>() * 1e9) << name;
    EXPECT_EQ(gpu.compute_capability, fact["compute_capability"].get<std::string>()) << name;
    EXPECT_EQ(gpu.pcie_generation, fact["pcie_gen"].get<int>()) << name;
    EXPECT_EQ(gpu.pcie_width, fact["pcie_lanes"].get<int>()) << name;
    EXPECT_EQ(gpu.nvlink_links, fact.value("nvlink_links", 0)) << name;
    EXPECT_EQ(gpu.nvlink_generation, fact.value("nvlink_gen", 0)) << name;
    EXPECT_EQ(gpu.nvlink_bandwidth_bytes_per_s, fact.value("nvlink_gb_s_per_direction", 0.0) * 1e9);
    EXPECT_EQ(gpu.multiprocessors, fact["sm_count"].get<int>()) << name;
    EXPECT_EQ(gpu.doubt.empty(), !fact.contains("uncertain")) << name;
    EXPECT_FALSE(gpu.source.empty()) << name;
    for (const auto& [member, type] : types) {
      const auto rate = gpu.peak_ops_per_s.find(type);
      ASSERT_EQ(rate != gpu.peak_ops_per_s.end(), fact.contains(member)) << name << " " << type;
      if (fact.contains(member)) {
        EXPECT_DOUBLE_EQ(rate->second, fact[member].get<double>() * 1e12) << name << " " << type;
      }
    }
  }
}

Topology OneGpu(const std::string& name, int64_t memory = 0) {
  Topology topology;
  topology.hosts.push_back({.name = "h"});
  DeviceInfo gpu;
  gpu.id = "cuda:0";
  gpu.kind = DeviceKind::kGpu;
  gpu.name = name;
  gpu.memory_bytes = gpu.available_bytes = memory;
  topology.devices = {gpu};
  return topology;
}

TEST(CompleteTopology, FillsOnlyWhatIsUnknown) {
  Topology topology = OneGpu("NVIDIA GeForce RTX 3090");
  topology.devices[0].pcie_width = 4;
  CompleteTopology(Catalogue(), topology);
  const DeviceInfo& gpu = topology.devices[0];
  EXPECT_EQ(gpu.memory_bandwidth_bytes_per_s, 936e9);
  EXPECT_EQ(gpu.sources.at("memory_bandwidth_bytes_per_s"), "gpus.yaml");
  EXPECT_EQ(gpu.memory_bytes, 24 * kGiB);
  EXPECT_EQ(gpu.pcie_width, 4);
  EXPECT_EQ(gpu.sources.count("pcie_width"), 0);
  EXPECT_EQ(gpu.pcie_generation, 4);
  EXPECT_TRUE(topology.notes.empty());
}

TEST(CompleteTopology, FindsANamelessCardByItsPciId) {
  Topology topology = OneGpu("");
  topology.devices[0].pci_id = "10de:2330";
  CompleteTopology(Catalogue(), topology);
  EXPECT_EQ(topology.devices[0].name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(topology.devices[0].sources.at("name"), "gpus.yaml by PCI id");
}

TEST(CompleteTopology, SaysThatAnUnknownCardIsEstimated) {
  Topology topology = OneGpu("NVIDIA Dream Card", 24 * kGiB);
  topology.devices[0].compute_capability = "8.6";
  CompleteTopology(Catalogue(), topology);
  const DeviceInfo& gpu = topology.devices[0];
  EXPECT_EQ(gpu.name, "NVIDIA Dream Card");
  EXPECT_EQ(gpu.memory_bandwidth_bytes_per_s, 936e9);
  EXPECT_EQ(gpu.sources.at("memory_bandwidth_bytes_per_s"), "estimate: as NVIDIA GeForce RTX 3090");
  ASSERT_EQ(topology.notes.size(), 1);
  EXPECT_THAT(topology.notes[0], HasSubstr("Dream Card"));
}

TEST(CompleteTopology, GivesLinksOfAMatrixTheirRate) {
  Topology topology = OneGpu("NVIDIA H200");
  for (int i = 1; i < 4; ++i) {
    topology.devices.push_back(topology.devices[0]);
    topology.devices[i].id = "cuda:" + std::to_string(i);
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = i + 1; j < 4; ++j) {
      topology.links.push_back({.a = i, .b = j, .kind = LinkKind::kNvlink, .count = 18});
    }
  }
  CompleteTopology(Catalogue(), topology);
  ASSERT_EQ(topology.links.size(), 6);
  EXPECT_EQ(topology.links[0].bandwidth_bytes_per_s, 450e9);
  EXPECT_TRUE(topology.links[0].via_switch);  // 54 of 18 links
}

TEST(CompleteTopology, ADirectMeshIsNoSwitch) {
  Topology topology = OneGpu("NVIDIA H100 80GB HBM3");
  for (int i = 1; i < 4; ++i) topology.devices.push_back(topology.devices[0]);
  for (int i = 0; i < 4; ++i) {
    for (int j = i + 1; j < 4; ++j) {
      topology.links.push_back({.a = i, .b = j, .kind = LinkKind::kNvlink, .count = 6});
    }
  }
  CompleteTopology(Catalogue(), topology);
  EXPECT_EQ(topology.links[0].bandwidth_bytes_per_s, 150e9);
  EXPECT_FALSE(topology.links[0].via_switch);
}

TEST(CompleteTopology, AssumesOnlyWhatIsUnknownOfPcie) {
  Topology topology = OneGpu("");
  topology.devices.push_back(topology.devices[0]);
  topology.devices[1].pcie_width = 4;
  CompleteTopology(Catalogue(), topology);
  ASSERT_EQ(topology.links.size(), 1);
  EXPECT_NEAR(topology.links[0].bandwidth_bytes_per_s, 3.94e9, 0.01e9);
  EXPECT_EQ(topology.links[0].source, "estimate: as PCIe 3x4");
}

TEST(CompleteTopology, TheSlotOfAnUnknownCardIsAnEstimateToo) {
  Topology topology = OneGpu("NVIDIA Dream Card", 24 * kGiB);
  topology.devices.push_back(topology.devices[0]);
  CompleteTopology(Catalogue(), topology);
  ASSERT_EQ(topology.links.size(), 1);
  EXPECT_THAT(topology.links[0].source, HasSubstr("estimate: as PCIe 3x16"));
  topology.links.clear();
  AddHostLinks(topology);
  EXPECT_THAT(topology.links[0].source, HasSubstr("estimate: as PCIe 3x16"));
  Topology known = OneGpu("NVIDIA GeForce RTX 3090", 24 * kGiB);
  known.devices.push_back(known.devices[0]);
  CompleteTopology(Catalogue(), known);
  EXPECT_THAT(known.links[0].source, testing::Not(HasSubstr("estimate")));
  known.links.clear();
  AddHostLinks(known);
  EXPECT_EQ(known.links[0].source, "");
}

TEST(CompleteTopology, PeersAreNotFasterThanTheStatedLinkWithTheCpu) {
  Topology topology = OneGpu("");
  topology.devices.push_back(topology.devices[0]);
  topology.devices.push_back(topology.devices[0]);
  topology.devices[0].kind = DeviceKind::kCpu;
  const double rates[] = {0, 8e9, 4e9};
  for (int gpu : {1, 2}) {
    topology.links.push_back(
        {.a = 0, .b = gpu, .kind = LinkKind::kPcie, .bandwidth_bytes_per_s = rates[gpu]});
  }
  topology.links.push_back({.a = 1, .b = 2, .kind = LinkKind::kPhb});
  CompleteTopology(Catalogue(), topology);
  ASSERT_EQ(topology.links.size(), 3);
  EXPECT_EQ(topology.links[2].bandwidth_bytes_per_s, 4e9);
  EXPECT_THAT(topology.links[2].source, testing::Not(HasSubstr("estimate")));
}

TEST(CompleteTopology, KnowsWhichCardsHaveNoPeerAccessOverPcie) {
  Topology topology = OneGpu("NVIDIA GeForce RTX 4090");
  topology.devices.push_back(topology.devices[0]);
  CompleteTopology(Catalogue(), topology);
  ASSERT_EQ(topology.links.size(), 1);
  EXPECT_EQ(topology.links[0].peer_access, PeerAccess::kNo);
  EXPECT_THAT(topology.links[0].peer_access_reason, HasSubstr("RTX 4090"));
  EXPECT_NEAR(topology.links[0].bandwidth_bytes_per_s, 31.5e9, 0.1e9);
}

TEST(GpuCatalogue, SuggestsWhatIsSpeltAlike) {
  const auto first = [](const char* name) {
    const std::vector<std::string> names = Catalogue().Similar(name);
    EXPECT_LE(names.size(), 3);
    return names.empty() ? "" : names[0];
  };
  EXPECT_EQ(first("RTX 4900"), "rtx4090");
  EXPECT_EQ(first("NVIDIA GeForce RTX 3009"), "rtx3090");
  EXPECT_EQ(first("h1000"), "h100");
  EXPECT_EQ(first("l40ss"), "l40s");
  EXPECT_EQ(first("Radeon RX 7900"), "");
  EXPECT_EQ(first(""), "");
  EXPECT_EQ(first(std::string(100000, 'x').c_str()), "");
}

// Ids that pci.ids and NVIDIA's list of supported GPUs agree on.
TEST(GpuCatalogue, FindsCardsOfLateYearsByPciId) {
  const GpuCatalogue catalogue = Catalogue();
  for (const auto& [id, name] : {std::pair("10de:2335", "NVIDIA H200"),
                                 {"10de:233b", "NVIDIA H200 NVL"},
                                 {"10de:2901", "NVIDIA B200"},
                                 {"10de:2941", "NVIDIA GB200"},
                                 {"10de:3182", "NVIDIA B300 SXM6 AC"},
                                 {"10de:2b85", "NVIDIA GeForce RTX 5090"},
                                 {"10de:2c58", "NVIDIA GeForce RTX 5090 Laptop GPU"},
                                 {"10de:27e0", "NVIDIA GeForce RTX 4080 Laptop GPU"},
                                 {"10de:2e12", "NVIDIA GB10"}}) {
    const GpuFacts* facts = catalogue.FindPciId(id);
    ASSERT_NE(facts, nullptr) << id;
    EXPECT_EQ(facts->name, name) << id;
  }
}

TEST(CompleteTopology, CardsThatAreEstimatedShareANote) {
  Topology topology = OneGpu("Strange card");
  topology.devices[0].id = "cuda:0";
  topology.devices[0].compute_capability = "8.6";
  for (int i = 0; i < 3; ++i) topology.devices.push_back(topology.devices[0]);
  CompleteTopology(Catalogue(), topology);
  ASSERT_EQ(topology.notes.size(), 1);
  EXPECT_THAT(topology.notes[0], testing::StartsWith("cuda:0 (and 3 more): \"Strange card\""));
}

TEST(CompleteTopology, TheRateOfAnUnknownCardsNvlinkIsAnEstimate) {
  for (const bool known : {false, true}) {
    Topology topology = OneGpu(known ? "NVIDIA H200" : "");
    topology.devices.push_back(topology.devices[0]);
    topology.links.push_back({.a = 0, .b = 1, .kind = LinkKind::kNvlink, .count = 18});
    CompleteTopology(Catalogue(), topology);
    EXPECT_EQ(topology.links[0].bandwidth_bytes_per_s, 450e9);
    EXPECT_EQ(topology.links[0].source.find("estimate") != std::string::npos, !known);
  }
}

}  // namespace
}  // namespace tprun
