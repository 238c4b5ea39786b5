#include "topology/cluster_file.h"

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "topology/paths.h"
#include "topology/yaml_map.h"

namespace tprun {
namespace {

using testing::HasSubstr;

GpuCatalogue Catalogue() {
  auto catalogue = GpuCatalogue::Read(SourcePath("clusters/gpus.yaml"));
  EXPECT_TRUE(catalogue.ok()) << catalogue.status();
  return *catalogue;
}

absl::StatusOr<Topology> Parse(const std::string& text) {
  return ParseClusterFile(text, "box.yaml", Catalogue());
}

std::string Message(const std::string& text) {
  const auto topology = Parse(text);
  EXPECT_FALSE(topology.ok()) << "was read without an error:\n" << text;
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(topology.status().message());
}

Path Between(const Topology& topology, int a, int b) {
  return PathBetween(topology, {.device = a}, {.device = b});
}

constexpr char kCpu[] = "hosts:\n  - cpu: {cores: 4, memory: 16GiB}\n";

TEST(ClusterFile, FillsInTheCatalogue) {
  const auto topology =
      Parse(std::string(kCpu) + "    gpus: [RTX 3090, {name: RTX 3060, pcie: 3x4}]\n");
  ASSERT_TRUE(topology.ok()) << topology.status();
  ASSERT_EQ(topology->devices.size(), 3);
  EXPECT_EQ(topology->hosts[0].name, "host");
  EXPECT_EQ(topology->devices[0].id, "cpu");
  EXPECT_EQ(topology->devices[0].threads, 4);
  EXPECT_EQ(topology->devices[0].memory_bandwidth_bytes_per_s, 40e9);
  EXPECT_EQ(topology->devices[1].id, "cuda:0");
  EXPECT_EQ(topology->devices[1].memory_bytes, 24 * kGiB);
  EXPECT_EQ(topology->devices[1].memory_bandwidth_bytes_per_s, 936e9);
  EXPECT_EQ(topology->devices[2].memory_bytes, 12 * kGiB);
  EXPECT_EQ(topology->devices[2].pcie_width, 4);
  EXPECT_EQ(topology->devices[2].pcie_max_width, 16);
  // CPU with each GPU, and the GPUs at the rate of the narrow slot.
  ASSERT_EQ(topology->links.size(), 3);
  EXPECT_NEAR(Between(*topology, 1, 2).bandwidth_bytes_per_s, 3.94e9, 0.01e9);
  EXPECT_NEAR(Between(*topology, 0, 1).bandwidth_bytes_per_s, 31.5e9, 0.1e9);
}

TEST(ClusterFile, OwnNumbersGoBeforeTheCatalogue) {
  const auto topology = Parse(std::string(kCpu) +
                              "    gpus:\n      - RTX 3090: {vram: 20GiB, bandwidth: 900GB/s}\n"
                              "      - Card X: {vram: 8GiB, bandwidth: 100GB/s, pcie: 2x1}\n");
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(topology->devices[1].memory_bytes, 20 * kGiB);
  EXPECT_EQ(topology->devices[1].memory_bandwidth_bytes_per_s, 900e9);
  EXPECT_EQ(topology->devices[2].name, "Card X");
  EXPECT_EQ(topology->devices[2].pcie_generation, 2);
}

TEST(ClusterFile, TellsCardsOfOneNameApartByMemory) {
  const auto topology =
      Parse(std::string(kCpu) + "    gpus: [{name: NVIDIA GeForce RTX 3080, memory: 12GiB}]\n");
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(topology->devices[1].memory_bandwidth_bytes_per_s, 912e9);
}

TEST(ClusterFile, CountsMakeHostsAndDevicesInOrder) {
  const auto topology = Parse(
      "network: {bandwidth: 80Gbit/s, latency: 5us}\n"
      "hosts:\n"
      "  - {name: n, count: 2, cpu: {cores: 1, memory: 1GiB}, gpus: [{name: T4, count: 2}]}\n");
  ASSERT_TRUE(topology.ok()) << topology.status();
  // The hosts are not listed one by one.
  ASSERT_EQ(topology->devices.size(), 3);
  const std::vector<DeviceRef> refs = AllDeviceRefs(*topology);
  ASSERT_EQ(refs.size(), 6);
  EXPECT_EQ(DeviceId(*topology, refs[1]), "n1/cpu");
  EXPECT_EQ(DeviceId(*topology, refs[2]), "n0/cuda:0");
  EXPECT_EQ(DeviceId(*topology, refs[5]), "n1/cuda:1");
  EXPECT_EQ(PathBetween(*topology, refs[0], refs[1]).bandwidth_bytes_per_s, 10e9);
  // By PCIe, network, PCIe: the network is the narrow part.
  const Path path = PathBetween(*topology, refs[2], refs[5]);
  EXPECT_EQ(path.kind, LinkKind::kNetwork);
  EXPECT_EQ(path.bandwidth_bytes_per_s, 10e9);
  EXPECT_NEAR(path.latency_s, 5e-6, 1e-12);
}

TEST(ClusterFile, LinksNameEqualHostsTogetherOrOne) {
  const std::string hosts =
      "network: {bandwidth: 80Gbit/s}\n"
      "hosts: [{name: n, count: 3, cpu: {cores: 1, memory: 1GiB}, gpus: [T4, T4]}]\n";
  const auto together =
      Parse(hosts + "links: [{a: 'n/cuda:0', b: 'n/cuda:1', kind: nvlink, bandwidth: 50GB/s}]\n");
  ASSERT_TRUE(together.ok()) << together.status();
  ASSERT_EQ(together->hosts.size(), 1);
  EXPECT_EQ(PathBetween(*together, {1, 2}, {2, 2}).bandwidth_bytes_per_s, 50e9);
  EXPECT_EQ(PathBetween(*together, {1, 1}, {2, 2}).kind, LinkKind::kNetwork);
  const auto apart = Parse(
      hosts + "links: [{a: 'n0/cuda:0', b: 'n2/cuda:1', kind: network, bandwidth: 50GB/s}]\n");
  ASSERT_TRUE(apart.ok()) << apart.status();
  ASSERT_EQ(apart->hosts.size(), 3);
  const DeviceRef a = *LocateDevice(*apart, "n0/cuda:0");
  EXPECT_EQ(PathBetween(*apart, a, *LocateDevice(*apart, "n2/cuda:1")).bandwidth_bytes_per_s, 50e9);
  EXPECT_EQ(PathBetween(*apart, a, *LocateDevice(*apart, "n1/cuda:1")).bandwidth_bytes_per_s, 10e9);
  const auto wrong =
      Parse(hosts + "links: [{a: 'n/cuda:0', b: 'n0/cuda:1', kind: network, bandwidth: 5GB/s}]\n");
  EXPECT_FALSE(wrong.ok());
}

TEST(ClusterFile, ReadsFabricsNicsAndMeasuredFigures) {
  const auto topology = Parse(R"(
hosts:
  - name: n
    count: 10000
    software: {driver: "550.54"}
    cpu: {cores: 4, memory: 16GiB, bandwidth: 50GB/s, measured: true, peak: {fp32: 1.5TFLOPS}}
    gpus:
      - name: H100
        count: 2
        measured: {bandwidth: 3.1TB/s, host_to_device: 55GB/s, device_to_host: 54GB/s, matmul: {bf16: 790TFLOPS}, date: 2026-11-20}
    nvlink: [{gpus: all, links: 4}]
    nics: [{name: mlx5_, count: 2, bandwidth: 400Gbit/s, gpu_paths: {"cuda:0": pix, "cuda:1": system}}]
  - {name: login, cpu: {cores: 2, memory: 8GiB, bandwidth: 20GB/s}}
fabrics:
  - {name: ib, nics: 2, nic_bandwidth: 400Gbit/s, latency: 3us, oversubscription: 2, hosts: [n]}
  - {name: eth, bandwidth: 10Gbit/s, hosts: [n, login]}
)");
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_TRUE(topology->notes.empty());
  EXPECT_EQ(topology->hosts[0].count, 10000);
  EXPECT_EQ(topology->hosts[0].software.at("driver"), "550.54");
  EXPECT_EQ(topology->devices[0].measured.memory_bandwidth_bytes_per_s, 50e9);
  const DeviceInfo& gpu = topology->devices[2];
  EXPECT_EQ(gpu.measured.memory_bandwidth_bytes_per_s, 3.1e12);
  EXPECT_EQ(gpu.measured.matmul_ops_per_s.at("bf16"), 790e12);
  EXPECT_EQ(gpu.memory_bandwidth_bytes_per_s, 3352e9);
  EXPECT_EQ(gpu.peak_ops_per_s.at("bf16"), 989.4e12);
  ASSERT_EQ(topology->nics.size(), 2);
  EXPECT_EQ(topology->nics[1].name, "mlx5_1");
  EXPECT_EQ(topology->nics[1].gpu_paths.at(3), LinkKind::kSystem);
  ASSERT_EQ(topology->fabrics.size(), 2);
  EXPECT_EQ(topology->fabrics[0].bandwidth_bytes_per_s, 100e9);
  EXPECT_EQ(topology->fabrics[0].nics_per_host, 2);
  // Four of the eighteen links of 25 GB/s; one NIC of the two; Ethernet to the login node.
  EXPECT_EQ(PathBetween(*topology, {2, 7}, {3, 7}).bandwidth_bytes_per_s, 100e9);
  EXPECT_EQ(PathBetween(*topology, {2, 7}, {3, 9999}).bandwidth_bytes_per_s, 50e9);
  EXPECT_EQ(PathBetween(*topology, {2, 7}, {1, 0}).bandwidth_bytes_per_s, 1.25e9);
}

TEST(ClusterFile, NvlinkGroupsTakeTheCatalogueRate) {
  const auto topology = ReadClusterFile(SourcePath("clusters/3xrtx3090-nvlink-pair.yaml"));
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(Between(*topology, 1, 2).kind, LinkKind::kNvlink);
  EXPECT_EQ(Between(*topology, 1, 2).bandwidth_bytes_per_s, 56.25e9);
  EXPECT_EQ(Between(*topology, 1, 3).kind, LinkKind::kPcie);
}

TEST(ClusterFile, AllExamplesAreRead) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SourcePath("clusters"))) {
    const std::string name = entry.path().filename();
    if (entry.path().extension() != ".yaml" || name == "gpus.yaml" || name == "overheads.yaml") {
      continue;
    }
    ++count;
    const auto topology = ReadTopologyFile(entry.path());
    ASSERT_TRUE(topology.ok()) << topology.status();
    EXPECT_TRUE(topology->notes.empty()) << name << ": " << topology->notes[0];
    for (const Link& link : topology->links) EXPECT_GT(link.bandwidth_bytes_per_s, 0) << name;
    for (const DeviceInfo& device : topology->devices) {
      EXPECT_GT(device.memory_bytes, 0) << name;
      EXPECT_GT(device.memory_bandwidth_bytes_per_s, 0) << name;
    }
  }
  EXPECT_GE(count, 20);
  const auto dgx = ReadClusterFile(SourcePath("clusters/dgx-h200.yaml"));
  EXPECT_EQ(dgx->devices.size(), 9);
  EXPECT_EQ(dgx->links.size(), 8 * 7 / 2 + 8);
}

TEST(ClusterFile, MissingFileIsNotFound) {
  EXPECT_EQ(ReadClusterFile("/no/such.yaml").status().code(), absl::StatusCode::kNotFound);
}

struct BadFile {
  const char* text;
  const char* where;
  const char* what;
};

class ClusterFileError : public testing::TestWithParam<BadFile> {};

TEST_P(ClusterFileError, HasLineAndExpectation) {
  const std::string message = Message(GetParam().text);
  EXPECT_THAT(message, testing::StartsWith(GetParam().where));
  EXPECT_THAT(message, HasSubstr(GetParam().what));
}

const BadFile kBadFiles[] = {
    {"", "box.yaml", "wanted"},
    {"just text", "box.yaml:1:", "wanted a mapping"},
    {"hosts: [", "box.yaml:", "no valid YAML"},
    {"\x01\x02", "box.yaml", ""},
    {"hosts: []", "box.yaml:1:", "at least one host"},
    {"hosts: 3", "box.yaml:1:", "wanted a list"},
    {"a: 1\n---\nb: 2", "box.yaml", "one YAML document"},
    {"hosts:\n  - cpu: {cores: 4, memory: 16GiB}\nhost: x",
     "box.yaml:3:", "unknown key \"host\"; the known keys are: description, hosts"},
    {"hosts:\n  - cpu: {cores: 4, memory: 16GiB}\nhosts: []", "box.yaml:3:", "twice"},
    {"hosts:\n  - gpus: [T4]", "box.yaml:2:", "cpu: wanted a mapping"},
    {"hosts:\n  - cpu:\n      cores: 0\n      memory: 1GiB", "box.yaml:3:", "from 1 to 65536"},
    {"hosts:\n  - cpu:\n      cores: 4.5\n      memory: 1GiB", "box.yaml:3:", "found \"4.5\""},
    {"hosts:\n  - cpu: {cores: [4], memory: 1GiB}", "box.yaml:2:", "found a list"},
    {"hosts:\n  - cpu: {cores: 4}", "box.yaml:2:", "memory: wanted a size"},
    {"hosts:\n  - cpu: {cores: 4, memory: 16}", "box.yaml:2:", "give a unit"},
    {"hosts:\n  - cpu: {cores: 4, memory: lots}", "box.yaml:2:", "24GiB, 512 MiB"},
    {"hosts:\n  - cpu: {cores: 4, memory: -1GiB}", "box.yaml:2:", "found \"-1GiB\""},
    {"hosts:\n  - cpu: {cores: 4, memory: 9999TiB}", "box.yaml:2:", "at most 1 PiB"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB, available: 9GiB}",
     "box.yaml:2:", "at most the memory"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB, bandwidth: 50}",
     "box.yaml:2:", "wanted a bandwidth"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB, measured: maybe}", "box.yaml:2:", "true or false"},
    {"hosts:\n  - name: a/b\n    cpu: {cores: 4, memory: 8GiB}", "box.yaml:2:", "without blanks"},
    {"hosts:\n  - count: 1000000000\n    cpu: {cores: 4, memory: 8GiB}",
     "box.yaml:2:", "from 1 to 10000"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [Voodoo 3]",
     "box.yaml:3:", "not in the catalogue"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [{name: Voodoo 3, memory: 16MiB}]",
     "box.yaml:3:", "bandwidth"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [{nam: T4}]",
     "box.yaml:3:", "unknown key \"nam\""},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [{name: T4, memory: 1GiB, vram: 1GiB}]",
     "box.yaml:3:", "one of them"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [{name: T4, pcie: 9x16}]",
     "box.yaml:3:", "generation x lanes"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [{name: T4, count: 60}, {name: T4, "
     "count: 60}]",
     "box.yaml:3:", "at most 64"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [T4, T4]\n    nvlink: [{gpus: [0, 2]}]",
     "box.yaml:4:", "from 0 to 1"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [T4, T4]\n    nvlink: [{gpus: all}]",
     "box.yaml:4:", "knows no NVLink"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [A100, A100]\n    nvlink:\n      - "
     "gpus: "
     "[0, 1]\n      - gpus: all",
     "box.yaml:6:", "joined twice"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n  - cpu: {cores: 4, memory: 8GiB}",
     "box.yaml:1:", "network: there are 2 hosts"},
    {"hosts:\n  - {name: a, cpu: {cores: 4, memory: 8GiB}}\n  - {name: a, cpu: {cores: 4, memory: "
     "8GiB}}",
     "box.yaml:3:", "\"a\" is there twice"},
    {"network: {bandwidth: 1GB/s}\nhosts:\n  - {name: a, count: 3, cpu: {cores: 4, memory: 8GiB}}\n"
     "  - {name: a2, cpu: {cores: 4, memory: 8GiB}}",
     "box.yaml:3:", "\"a2\" is there twice"},
    {"hosts:\n  - {name: a, count: 3, cpu: {cores: 4, memory: 8GiB}}\nfabrics:\n  - {bandwidth: "
     "1GB/s, hosts: [b]}",
     "box.yaml:4:", "there is no host \"b\""},
    {"hosts:\n  - {name: a, count: 3, cpu: {cores: 4, memory: 8GiB}}\nfabrics:\n  - {bandwidth: "
     "1GB/s, kind: rope}",
     "box.yaml:4:", "network or nvlink"},
    {"hosts:\n  - {name: a, count: 3, cpu: {cores: 4, memory: 8GiB}}\nfabrics:\n  - {bandwidth: "
     "1GB/s, oversubscription: 0.5}",
     "box.yaml:4:", "from 1 to 1000"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB, peak: {bf16: 5}}", "box.yaml:2:", "990TFLOPS"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    nics: [{gpu_paths: {'cuda:0': pix}}]",
     "box.yaml:3:", "no GPU \"cuda:0\""},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\nlinks:\n  - {a: cpu, b: cuda:0, kind: pcie, "
     "bandwidth: 1GB/s}",
     "box.yaml:4:", "no device \"cuda:0\" in box.yaml; there are: cpu"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\nlinks:\n  - {a: cpu, b: cpu, kind: pcie, "
     "bandwidth: 1GB/s}",
     "box.yaml:4:", "another device"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [T4]\nlinks:\n  - {a: cpu, b: 'cuda:0', "
     "kind: wire, bandwidth: 1GB/s}",
     "box.yaml:5:", "pcie, system or network"},
    {"hosts: &h\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: *h", "box.yaml", ""},
};
INSTANTIATE_TEST_SUITE_P(Files, ClusterFileError, testing::ValuesIn(kBadFiles));

TEST(ClusterFile, DeepNestingIsAnErrorAndNoCrash) {
  EXPECT_FALSE(Parse(std::string(100000, '[')).ok());
  EXPECT_FALSE(Parse("hosts: " + std::string(100000, '{')).ok());
}

TEST(ParseBandwidth, ReadsBytesAndBits) {
  EXPECT_EQ(*ParseBandwidth("936GB/s"), 936e9);
  EXPECT_EQ(*ParseBandwidth(" 12.5 GB/s"), 12.5e9);
  EXPECT_EQ(*ParseBandwidth("100Gbit/s"), 12.5e9);
  EXPECT_EQ(*ParseBandwidth("100Gb/s"), 12.5e9);
  EXPECT_EQ(*ParseBandwidth("1GiB/s"), 1073741824.0);
  for (const char* text :
       {"", "936", "GB/s", "-1GB/s", "1e3GB/s", "5 gb/s", "1..2GB/s", "99999999999999GB/s"}) {
    EXPECT_FALSE(ParseBandwidth(text).ok()) << text;
  }
}

TEST(ParseLatency, ReadsUnits) {
  EXPECT_DOUBLE_EQ(*ParseLatency("5us"), 5e-6);
  EXPECT_DOUBLE_EQ(*ParseLatency("800 ns"), 8e-7);
  for (const char* text : {"", "5", "us", "-5us", "100s", "5 parsecs"}) {
    EXPECT_FALSE(ParseLatency(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tprun
