#include "topology/cluster_file.h"

#include <string>
#include <vector>

#include "base/file.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
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
  EXPECT_NEAR(LinkBetween(*topology, 1, 2).bandwidth_bytes_per_s, 3.94e9, 0.01e9);
  EXPECT_NEAR(LinkBetween(*topology, 0, 1).bandwidth_bytes_per_s, 31.5e9, 0.1e9);
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
  ASSERT_EQ(topology->devices.size(), 6);
  EXPECT_EQ(QualifiedDeviceId(*topology, 1), "n1/cpu");
  EXPECT_EQ(QualifiedDeviceId(*topology, 2), "n0/cuda:0");
  EXPECT_EQ(QualifiedDeviceId(*topology, 5), "n1/cuda:1");
  EXPECT_EQ(LinkBetween(*topology, 0, 1).bandwidth_bytes_per_s, 10e9);
  // By PCIe, network, PCIe: the network is the narrow part.
  const Link path = LinkBetween(*topology, 2, 5);
  EXPECT_EQ(path.kind, LinkKind::kNetwork);
  EXPECT_EQ(path.bandwidth_bytes_per_s, 10e9);
  EXPECT_NEAR(path.latency_s, 5e-6, 1e-12);
}

TEST(ClusterFile, NvlinkGroupsTakeTheCatalogueRate) {
  const auto topology = ReadClusterFile(SourcePath("clusters/3xrtx3090-nvlink-pair.yaml"));
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(LinkBetween(*topology, 1, 2).kind, LinkKind::kNvlink);
  EXPECT_EQ(LinkBetween(*topology, 1, 2).bandwidth_bytes_per_s, 56.25e9);
  EXPECT_EQ(LinkBetween(*topology, 1, 3).kind, LinkKind::kPcie);
}

TEST(ClusterFile, AllExamplesAreRead) {
  for (const char* name :
       {"laptop-cpu", "rtx3090-rtx3060", "3xrtx3090-nvlink-pair", "dgx-h200", "two-desktops"}) {
    const auto topology = ReadTopologyFile(SourcePath(std::string("clusters/") + name + ".yaml"));
    ASSERT_TRUE(topology.ok()) << topology.status();
    EXPECT_TRUE(topology->notes.empty()) << name << ": " << topology->notes[0];
    for (const Link& link : topology->links) EXPECT_GT(link.bandwidth_bytes_per_s, 0) << name;
    for (const DeviceInfo& device : topology->devices) {
      EXPECT_GT(device.memory_bytes, 0) << name;
      EXPECT_GT(device.memory_bandwidth_bytes_per_s, 0) << name;
    }
  }
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
     "box.yaml:2:", "from 1 to 1024"},
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
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\nlinks:\n  - {a: cpu, b: cuda:0, kind: pcie, "
     "bandwidth: 1GB/s}",
     "box.yaml:4:", "no device \"cuda:0\" in box.yaml; there are: cpu"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\nlinks:\n  - {a: cpu, b: cpu, kind: pcie, "
     "bandwidth: 1GB/s}",
     "box.yaml:4:", "another device"},
    {"hosts:\n  - cpu: {cores: 4, memory: 8GiB}\n    gpus: [T4]\nlinks:\n  - {a: cpu, b: 'cuda:0', "
     "kind: wire, bandwidth: 1GB/s}",
     "box.yaml:5:", "nvlink, pcie, system or network"},
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
