#include "topology/format_topology.h"

#include <string>

#include "base/file.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "topology/cluster_file.h"

namespace tprun {
namespace {

using testing::HasSubstr;
using testing::Not;

Topology Example(const std::string& name) {
  auto topology = ReadClusterFile(SourcePath("clusters/" + name));
  EXPECT_TRUE(topology.ok()) << topology.status();
  return *std::move(topology);
}

// All but the source, in one comparable text.
std::string Content(const Topology& topology) {
  Json json = TopologyJson(topology);
  json.erase("source");
  return json.dump(1);
}

// Numbers that no unit writes evenly, and texts that need quotes.
Topology Odd() {
  Topology topology = Example("rtx3090-rtx3060.yaml");
  topology.devices[0].name = "Odd: \"CPU\" #1 \\ é";
  topology.devices[0].memory_bandwidth_bytes_per_s = 33123456789.123;
  topology.devices[0].measured.memory_bandwidth_bytes_per_s = 31234567890.5;
  topology.devices[0].memory_bytes = topology.hosts[0].memory_bytes = 25232121856 + 1;
  topology.devices[0].available_bytes = topology.hosts[0].available_bytes = 12345678901;
  topology.devices[2].uuid = "GPU-1";
  topology.devices[2].pcie_generation = topology.devices[2].pcie_width = 0;
  topology.devices[2].memory_bytes = topology.devices[2].available_bytes = 0;
  topology.hosts[0].numa_nodes = {{0, 25232121857, 7, "0-1"}};
  topology.links[0].latency_s = 1.0 / 3e6;
  topology.links.pop_back();
  topology.notes = {"a note: with \"quotes\"", "- and a dash"};
  return topology;
}

TEST(TopologyYaml, ReadsBackEqual) {
  std::vector<Topology> all = {Odd(), *DetectTopology()};
  for (const char* name : {"laptop-cpu", "rtx3090-rtx3060", "3xrtx3090-nvlink-pair", "dgx-h200"}) {
    all.push_back(Example(std::string(name) + ".yaml"));
  }
  for (const Topology& topology : all) {
    const std::string yaml = TopologyYaml(topology);
    // Without a catalogue: the file carries all numbers itself.
    const auto read = ParseClusterFile(yaml, "copy.yaml", GpuCatalogue());
    ASSERT_TRUE(read.ok()) << read.status() << "\n" << yaml;
    EXPECT_EQ(Content(*read), Content(topology)) << yaml;
  }
}

TEST(TopologyJson, ReadsBackEqual) {
  for (const Topology& topology : {Odd(), *DetectTopology(), Example("dgx-h200.yaml")}) {
    const auto read = ParseTopologyJson(TopologyJson(topology), "copy.json");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(TopologyJson(*read).dump(), TopologyJson(topology).dump());
  }
}

TEST(TopologyJson, WrongMembersAreErrors) {
  const Json good = TopologyJson(Example("rtx3090-rtx3060.yaml"));
  const auto message = [&](const char* pointer, Json value) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    const auto read = ParseTopologyJson(bad, "x.json");
    EXPECT_FALSE(read.ok()) << pointer;
    return std::string(read.status().message());
  };
  EXPECT_THAT(message("/tprun_topology", 3), HasSubstr("wanted version 1 to 2, found 3"));
  EXPECT_THAT(message("/devices/1/host", 5), HasSubstr("devices[1]: \"host\""));
  EXPECT_THAT(message("/devices/1/host", -1), HasSubstr("devices[1]"));
  EXPECT_THAT(message("/devices/1/memory_bytes", -1), HasSubstr("memory_bytes"));
  EXPECT_THAT(message("/devices/1/kind", "tpu"), HasSubstr("cpu or gpu"));
  EXPECT_THAT(message("/devices/1", 7), HasSubstr("devices[1]"));
  EXPECT_THAT(message("/links/0/a", 99), HasSubstr("links[0]"));
  EXPECT_THAT(message("/links/0/kind", "rope"), HasSubstr("nvlink, c2c"));
  EXPECT_THAT(message("/hosts", Json::array()), HasSubstr("x.json"));
  EXPECT_THAT(message("/links", 3), HasSubstr("wanted a list"));
}

TEST(TopologyText, ShowsDevicesLinksAndFreeMemory) {
  const std::string text = TopologyText(Example("rtx3090-rtx3060.yaml"), false);
  EXPECT_THAT(text, HasSubstr("desktop  64.00 GiB  58.00 GiB"));
  EXPECT_THAT(text, HasSubstr("NVIDIA GeForce RTX 3060  12.00 GiB"));
  EXPECT_THAT(text, HasSubstr("936 GB/s"));
  EXPECT_THAT(text, HasSubstr("3.94 GB/s"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(TopologyText(Odd(), true), HasSubstr("\x1b[1m"));
}

std::string TextOf(const std::string& source) {
  const auto topology = ReadTopologyFile(source);
  EXPECT_TRUE(topology.ok()) << topology.status();
  return topology.ok() ? TopologyText(*topology, false) : "";
}

TEST(TopologyText, AnUnknownWayIsNoProblem) {
  const std::string line = TextOf("rtx3090+rtx3060");
  EXPECT_THAT(line, Not(HasSubstr("problem:")));
  EXPECT_THAT(line, Not(HasSubstr("topo -m")));
  EXPECT_THAT(TopologySvg(*ReadTopologyFile("rtx3090+rtx3060")), Not(HasSubstr("host memory")));
  const std::string path = testing::TempDir() + "/two.csv";
  ASSERT_TRUE(WriteFile(path,
                        "index, name, pcie.link.width.current\n"
                        "0, No such card, 16\n1, No such card, 4\n")
                  .ok());
  const std::string text = TextOf(path);
  EXPECT_THAT(text, Not(HasSubstr("problem:")));
  EXPECT_THAT(text, HasSubstr("note: how the GPUs are joined is not stated"));
  EXPECT_THAT(text, HasSubstr("PCIe ?x4"));
  EXPECT_THAT(text, HasSubstr("PCIE ~3.94")) << "generation 3 assumed";
}

TEST(TopologyText, UnknownMemoryIsNotZero) {
  Topology topology = Example("rtx3090-rtx3060.yaml");
  Host& host = topology.hosts[0];
  host.available_bytes = topology.devices[0].available_bytes = 0;
  host.numa_nodes = {{0, 0, 0, "0-15"}, {1, kGiB, 0, ""}, {2, 0, 0, ""}};
  topology.devices[1].sources["available_bytes"] = "estimate: all free";
  topology.devices[1].nvlink_count = 4;
  topology.devices[2].available_bytes = 0;
  topology.devices[2].sources["available_bytes"] = "nvml";
  topology.devices[2].processes = {{1, "other", kGiB}};
  const std::string text = TopologyText(topology, false);
  EXPECT_THAT(text, testing::ContainsRegex("desktop +64.00 GiB +\\? +0: CPUs 0-15; "
                                           "1: \\? of 1.00 GiB; 2\n"));
  EXPECT_THAT(text, testing::ContainsRegex("RTX 3090 +24.00 GiB +\\? .*, 4 NVLinks"));
  EXPECT_THAT(text, testing::ContainsRegex("RTX 3060 +12.00 GiB +0 B "));
  EXPECT_THAT(text, HasSubstr("1 process holds 1.00 GiB"));
}

TEST(TopologyText, AGivenCpuBandwidthIsNominal) {
  EXPECT_THAT(TextOf("rtx3090 cpu:32c,256GiB,200GB/s"), HasSubstr("200 GB/s  nominal"));
  EXPECT_THAT(TextOf("rtx3090 cpu:32c,256GiB"), testing::ContainsRegex("cpu .*estimated"));
}

TEST(TopologyText, EqualLinksShareARowWhereAMatrixIsTooWide) {
  const std::string text = TopologyText(Example("dgx2.yaml"), false);
  EXPECT_THAT(text, testing::ContainsRegex("cpu +cuda:0-15 +pcie"));
  EXPECT_THAT(text, testing::ContainsRegex("cuda:0 +cuda:1-15 +nvlink x6 +150 GB/s"));
}

TEST(TopologyText, UpToEightGpusAreAMatrix) {
  const std::string text = TopologyText(Example("dgx1-v100.yaml"), false);
  EXPECT_THAT(text, testing::ContainsRegex("cuda:0 +PCIE 15.8 +X +NV1 25.0 +NV1 25.0 +NV2 50.0 +"
                                           "NV2 50.0 +SYS 15.8 +SYS 15.8 +SYS 15.8\n"));
  EXPECT_THAT(text, testing::ContainsRegex("NVLink island +4 +0 1 2 3"));
  EXPECT_THAT(text, testing::ContainsRegex("all GPUs +8 "));
  EXPECT_THAT(text, HasSubstr("no peer access between cuda:0 and cuda:5"));
}

TEST(TopologyText, TenThousandHostsAreAFewLines) {
  Topology topology = Example("azure-nd-h100-v5.yaml");
  topology.hosts[0].count = 10000;
  const std::string text = TopologyText(topology, false);
  EXPECT_LT(text.size(), 10000);
  EXPECT_THAT(text, HasSubstr("nd0 ... nd9999"));
  EXPECT_THAT(text, HasSubstr("joins 10000 hosts, 8 ports of 50.0 GB/s"));
}

TEST(TopologySvg, EscapesAndDrawsEveryDevice) {
  Topology topology = Example("3xrtx3090-nvlink-pair.yaml");
  topology.hosts[0].name = "<evil> & \"co\"";
  topology.devices[1].name = "A<B";
  const std::string svg = TopologySvg(topology);
  EXPECT_THAT(svg, HasSubstr("&lt;evil&gt; &amp; &quot;co&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("<evil>")));
  EXPECT_THAT(svg, HasSubstr("cuda:2"));
  EXPECT_THAT(svg, HasSubstr("56.2 GB/s"));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
}

TEST(TopologySvg, TellsIslandsSwitchesAndNarrowSlots) {
  const std::string dgx = TopologySvg(Example("dgx-h200.yaml"));
  EXPECT_THAT(dgx, HasSubstr("NVSwitch: NV18 450 GB/s between every two"));
  EXPECT_THAT(dgx, HasSubstr("NUMA 1"));
  EXPECT_THAT(dgx, HasSubstr("8 NICs of 50.0 GB/s"));
  const std::string desktop = TopologySvg(Example("rtx3090-rtx3060.yaml"));
  EXPECT_THAT(desktop, HasSubstr("x4 of x16"));
  const std::string switches = TopologySvg(Example("4xl40s-pcie-switches.yaml"));
  EXPECT_THAT(switches, HasSubstr("PCIe switch"));
  EXPECT_THAT(switches, HasSubstr("shared by 2"));
  const std::string cluster = TopologySvg(Example("azure-nd-h100-v5.yaml"));
  EXPECT_THAT(cluster, HasSubstr("×16"));
  EXPECT_THAT(cluster, HasSubstr("8 × 50.0 GB/s"));
}

TEST(ReadTopologyFile, TellsTheKindByContent) {
  const Topology topology = Example("rtx3090-rtx3060.yaml");
  const std::string folder = testing::TempDir();
  ASSERT_TRUE(WriteFile(folder + "/a.txt", TopologyYaml(topology)).ok());
  ASSERT_TRUE(WriteFile(folder + "/b.txt", TopologyJson(topology).dump()).ok());
  for (const char* name : {"/a.txt", "/b.txt"}) {
    const auto read = ReadTopologyFile(folder + name);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(Content(*read), Content(topology));
  }
}

TEST(ReadTopologyFile, AddsNothingToAFileThatSaysAll) {
  const std::string path = testing::TempDir() + "/bare.yaml";
  ASSERT_TRUE(WriteFile(path,
                        "derive_links: false\nhosts:\n"
                        "  - {cpu: {cores: 4, memory: 8GiB, bandwidth: 40GB/s}, gpus: [T4, T4]}\n")
                  .ok());
  const auto read = ReadTopologyFile(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->links.empty());
}

TEST(ReadTopologyFile, SaysWhatItReadsForAnythingElse) {
  const std::string path = testing::TempDir() + "/other.txt";
  const auto message = [&](const char* text) {
    EXPECT_TRUE(WriteFile(path, text).ok());
    const auto read = ReadTopologyFile(path);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("wanted a cluster file"));
    return std::string(read.status().message());
  };
  EXPECT_THAT(message("\tGPU0\tGPU1\tCPU Affinity\n"), HasSubstr("nvidia-smi text"));
  EXPECT_THAT(message("<?xml version=\"1.0\"?><nvidia_smi_log>"), HasSubstr("nvidia-smi XML"));
  EXPECT_THAT(message("{\"a\": 1}"), HasSubstr("tprun_topology"));
  EXPECT_THAT(message(""), HasSubstr("an empty file"));
  EXPECT_THAT(message("hello"), HasSubstr("something else"));
}

}  // namespace
}  // namespace tprun
