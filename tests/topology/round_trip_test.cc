// Every topology survives JSON and YAML; large ones in time.
#include <chrono>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "gtest/gtest.h"
#include "topology/cluster_file.h"
#include "topology/format_topology.h"

namespace tprun {
namespace {

// Random values, among them awkward ones.
class Maker {
 public:
  explicit Maker(int seed) : random_(seed) {}

  int Int(int min, int max) { return min + static_cast<int>(random_() % (max - min + 1)); }
  bool Bool() { return Int(0, 1) == 1; }
  double Rate() {
    const double kinds[] = {0, 936e9, 12.5e9, 1e12 / 3, Int(1, 1000000) * 1234.567, 0.125};
    return kinds[Int(0, 5)];
  }
  double Ops() { return Bool() ? Int(1, 4000) * 0.5e12 : 1e15 / Int(3, 77); }
  double Seconds() {
    const double kinds[] = {0, 5e-6, 1e-6 / 3, 1.5, Int(1, 1000) * 1e-9};
    return kinds[Int(0, 4)];
  }
  std::string Text() {
    const char* kinds[] = {"",          "plain",  "with \"quotes\" and \\",
                           "a: b # c",  "- dash", "é日本",
                           "~",         "null",   "1e3",
                           "true",      "{x}",    " blanks ",
                           "[y], z: *a"};
    return kinds[Int(0, 12)];
  }
  std::vector<std::string> Texts() {
    std::vector<std::string> texts(Int(0, 3));
    for (std::string& text : texts) text = Text();
    return texts;
  }
  std::map<std::string, std::string> TextMap() {
    std::map<std::string, std::string> map;
    for (int i = Int(0, 2); i > 0; --i) map[absl::StrCat("key ", i)] = Text();
    return map;
  }
  std::map<std::string, double> OpsMap() {
    std::map<std::string, double> map;
    for (const char* type : {"bf16", "fp8"}) {
      if (Bool()) map[type] = Ops();
    }
    return map;
  }
  void Memory(int64_t& total, int64_t& available) {
    total = Bool() ? Int(0, 200) * kGiB : int64_t{1} * Int(0, 1 << 30) * 977;
    available = total == 0 ? 0 : static_cast<int64_t>(random_() % (total + 1));
  }

  Host MakeHost(int index) {
    Host host;
    host.name = absl::StrCat("host-", std::string(1, static_cast<char>('a' + index)));
    host.count = Bool() ? 1 : Int(2, 10000);
    Memory(host.memory_bytes, host.available_bytes);
    for (int i = Int(0, 2); i > 0; --i) {
      NumaNode node = {.id = i * 8, .cpus = Text(), .package = Int(-1, 3)};
      Memory(node.memory_bytes, node.available_bytes);
      host.numa_nodes.push_back(node);
    }
    host.software = TextMap();
    return host;
  }

  void Common(int host, DeviceInfo& device) {
    device.host = host;
    device.name = Text();
    device.numa_node = Int(-1, 3);
    device.cpus = Text();
    Memory(device.memory_bytes, device.available_bytes);
    device.memory_bandwidth_bytes_per_s = Rate();
    device.peak_ops_per_s = OpsMap();
    device.measured.memory_bandwidth_bytes_per_s = Rate();
    device.measured.host_to_device_bytes_per_s = Rate();
    device.measured.device_to_host_bytes_per_s = Rate();
    device.measured.matmul_ops_per_s = OpsMap();
    device.measured.rank_latency_s = Seconds();
    device.measured.rank_bandwidth_bytes_per_s = Rate();
    device.measured.context_bytes = Int(0, 1 << 30);
    device.measured.nccl_base_bytes = Int(0, 1 << 30);
    device.measured.nccl_channel_bytes = Int(0, 1 << 24);
    device.measured.date = Text();
    device.sources = TextMap();
  }

  DeviceInfo Cpu(int host) {
    DeviceInfo cpu;
    Common(host, cpu);
    cpu.id = "cpu";
    cpu.cores = Int(0, 64);
    cpu.threads = Int(0, 128);
    cpu.isa = Texts();
    return cpu;
  }

  DeviceInfo Gpu(int host, int index) {
    DeviceInfo gpu;
    Common(host, gpu);
    gpu.kind = DeviceKind::kGpu;
    gpu.id = absl::StrCat("cuda:", Int(0, 4) == 0 ? index + 100 : index);
    gpu.uuid = Text();
    gpu.pci_bus_id = Text();
    gpu.pci_id = Text();
    gpu.pci_bridges = Texts();
    gpu.compute_capability = Text();
    gpu.pcie_generation = Int(0, 7);
    gpu.pcie_max_generation = Int(0, 7);
    gpu.pcie_width = Int(0, 32);
    gpu.pcie_max_width = Int(0, 32);
    gpu.nvlink_count = Int(0, 18);
    gpu.nvlink_bandwidth_bytes_per_s = Rate();
    gpu.memory_numa_node = Int(-1, 3);
    gpu.mig = Text();
    for (int i = Int(0, 2); i > 0; --i) gpu.mig_instances.push_back({Text(), Text(), Int(0, 99)});
    for (int i = Int(0, 2); i > 0; --i) gpu.processes.push_back({Int(0, 9999), Text(), Int(0, 99)});
    return gpu;
  }

  Link MakeLink(int a, int b) {
    Link link = {.a = a, .b = b, .kind = static_cast<LinkKind>(Int(0, 8))};
    link.bandwidth_bytes_per_s = Rate();
    link.latency_s = Seconds();
    link.count = Int(0, 18);
    link.via_switch = Bool();
    link.peer_access = static_cast<PeerAccess>(Int(0, 2));
    link.peer_access_reason = Text();
    link.peer_access_verified = Bool();
    link.measured_bandwidth_bytes_per_s = Rate();
    link.measured_latency_s = Seconds();
    link.source = Text();
    return link;
  }

  Topology Make() {
    Topology topology;
    topology.source = Text();
    const int hosts = Int(1, 4);
    for (int i = 0; i < hosts; ++i) topology.hosts.push_back(MakeHost(i));
    for (int i = 0; i < hosts; ++i) {
      // A dump may tell nothing of the CPU.
      if (i == 0 || Int(0, 3) > 0) topology.devices.push_back(Cpu(i));
    }
    for (int i = 0; i < hosts; ++i) {
      const int first = static_cast<int>(topology.devices.size());
      for (int j = Int(0, 3); j > 0; --j) {
        topology.devices.push_back(Gpu(i, static_cast<int>(topology.devices.size()) - first));
      }
      for (int j = Int(0, 2); j > 0; --j) topology.nics.push_back(MakeNic(i, first, topology));
    }
    AddLinks(topology);
    for (int i = Int(0, 2); i > 0; --i) AddFabric(topology);
    topology.notes = Texts();
    return topology;
  }

 private:
  Nic MakeNic(int host, int first_gpu, const Topology& topology) {
    Nic nic;
    nic.name = Text();
    nic.host = host;
    nic.numa_node = Int(-1, 3);
    nic.pci_bus_id = Text();
    nic.pci_id = Text();
    nic.pci_bridges = Texts();
    nic.bandwidth_bytes_per_s = Rate();
    nic.interfaces = Texts();
    for (size_t gpu = first_gpu; gpu < topology.devices.size(); ++gpu) {
      nic.gpu_paths[static_cast<int>(gpu)] = static_cast<LinkKind>(Int(0, 8));
    }
    nic.sources = TextMap();
    return nic;
  }

  void AddLinks(Topology& topology) {
    const int devices = static_cast<int>(topology.devices.size());
    for (int i = 0; i < 10; ++i) {
      const int a = Int(0, devices - 1);
      const int b = Int(0, devices - 1);
      const int host_a = topology.devices[a].host;
      const int host_b = topology.devices[b].host;
      const bool single = topology.hosts[host_a].count == 1 && topology.hosts[host_b].count == 1;
      if (a != b && (host_a == host_b || single)) topology.links.push_back(MakeLink(a, b));
    }
  }

  void AddFabric(Topology& topology) {
    Fabric fabric;
    fabric.name = Text();
    fabric.kind = Bool() ? LinkKind::kNvlink : LinkKind::kNetwork;
    fabric.bandwidth_bytes_per_s = Rate();
    fabric.nics_per_host = Int(1, 8);
    fabric.latency_s = Seconds();
    fabric.oversubscription = Bool() ? 1 : 1 + Int(1, 100) / 7.0;
    for (size_t i = 0; i < topology.hosts.size(); ++i) {
      if (Bool()) fabric.hosts.push_back(static_cast<int>(i));
    }
    topology.fabrics.push_back(fabric);
  }

  std::mt19937 random_;
};

TEST(RoundTrip, RandomTopologiesSurviveJsonAndYaml) {
  for (int seed = 0; seed < 300; ++seed) {
    const Topology topology = Maker(seed).Make();
    const std::string text = TopologyJson(topology).dump(1);
    const auto json = ParseJson(text);
    ASSERT_TRUE(json.ok()) << json.status();
    const auto from_json = ParseTopologyJson(*json, "x.json");
    ASSERT_TRUE(from_json.ok()) << from_json.status() << "\n" << text;
    ASSERT_EQ(TopologyJson(*from_json).dump(1), text) << "seed " << seed;
    const std::string yaml = TopologyYaml(topology);
    const auto from_yaml = ParseClusterFile(yaml, "x.yaml", GpuCatalogue());
    ASSERT_TRUE(from_yaml.ok()) << from_yaml.status() << "\n" << yaml;
    ASSERT_EQ(TopologyJson(*from_yaml).dump(1), text) << "seed " << seed << "\n" << yaml;
  }
}

TEST(RoundTrip, WhatAFileCannotHoldIsCleaned) {
  Topology topology = Maker(1).Make();
  topology.devices[0].name = std::string("two\nlines\x01") + std::string(5000, 'x');
  const auto read = ParseClusterFile(TopologyYaml(topology), "x.yaml", GpuCatalogue());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->devices[0].name.substr(0, 10), "two lines ");
}

TEST(RoundTrip, VersionOneIsStillRead) {
  const auto json = ParseJson(R"({"tprun_topology": 1, "source": "old",
    "hosts": [{"name": "h", "memory_bytes": 8, "available_bytes": 8, "numa_nodes": []}],
    "devices": [{"id": "cpu", "kind": "cpu", "name": "c", "host": 0, "numa_node": -1,
      "memory_bytes": 8, "available_bytes": 8, "memory_bandwidth_bytes_per_s": 5e9,
      "bandwidth_measured": true, "cores": 4, "threads": 4, "isa": ["avx2"]}],
    "links": [], "notes": []})");
  ASSERT_TRUE(json.ok()) << json.status();
  const auto topology = ParseTopologyJson(*json, "old.json");
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(topology->devices[0].measured.memory_bandwidth_bytes_per_s, 5e9);
  EXPECT_EQ(topology->hosts[0].count, 1);
}

double Seconds(const std::string& yaml, int64_t hosts) {
  const auto catalogue = GpuCatalogue::ReadDefault();
  const auto start = std::chrono::steady_clock::now();
  const auto topology = ParseClusterFile(yaml, "big.yaml", *catalogue);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(topology.ok()) << topology.status();
  if (topology.ok()) {
    EXPECT_EQ(CountHosts(*topology), hosts);
  }
  return time.count();
}

TEST(LargeCluster, TenThousandHostsAreReadQuickly) {
  const std::string network = "network: {bandwidth: 400Gbit/s, latency: 3us}\nhosts:\n";
  const std::string host =
      "cpu: {cores: 64, memory: 2TiB, bandwidth: 300GB/s}, gpus: [{name: H200, count: 8}], "
      "nvlink: [{gpus: all, switch: true}]";
  const double together =
      Seconds(absl::StrCat(network, "  - {name: n, count: 10000, ", host, "}\n"), 10000);
  std::string listed = network;
  for (int i = 0; i < 10000; ++i) absl::StrAppend(&listed, "  - {name: n", i, ", ", host, "}\n");
  const double apart = Seconds(listed, 10000);
  RecordProperty("together_ms", static_cast<int>(together * 1e3));
  RecordProperty("apart_ms", static_cast<int>(apart * 1e3));
  std::printf("10000 hosts: %.4f s as a count, %.2f s listed\n", together, apart);
  EXPECT_LT(together, 0.5);
  // Instrumented and busy machines are slow; quadratic code would take minutes.
  EXPECT_LT(apart, 20);
}

}  // namespace
}  // namespace tprun
