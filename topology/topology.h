#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// What a machine, or several, consist of: plain values, whatever source they come from (live
// detection, a cluster file). Unknown numbers are 0 unless said otherwise.

enum class DeviceKind { kCpu, kGpu };

struct NumaNode {
  int id = 0;
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  std::string cpus;  // "0-15,32-47"
};

// A CPU package set (one per host, id "cpu") or a GPU (id "cuda:N").
struct DeviceInfo {
  std::string id;
  DeviceKind kind = DeviceKind::kCpu;
  std::string name;             // "NVIDIA GeForce RTX 3090", "Intel(R) Xeon(R) ..."
  int host = 0;                 // index into Topology::hosts
  int numa_node = -1;           // -1: unknown or spread over several
  int64_t memory_bytes = 0;     // total
  int64_t available_bytes = 0;  // free now
  double memory_bandwidth_bytes_per_s = 0;
  bool bandwidth_measured = false;  // false: nominal or estimated
  // CPU only.
  int cores = 0;                 // physical
  int threads = 0;               // hardware threads this process may use
  std::vector<std::string> isa;  // "avx2", "avx512f", ...
  // GPU only.
  std::string pci_bus_id;          // "0000:65:00.0"
  std::string compute_capability;  // "8.6"
  // What the link runs at when busy: an idle GPU drops its generation to save power.
  int pcie_generation = 0;
  int pcie_width = 0;      // lanes
  int pcie_max_width = 0;  // lanes of the card; more than pcie_width in a narrow slot
  std::string uuid;        // "GPU-8932f937-..."
};

enum class LinkKind { kNvlink, kPcie, kSystem, kNetwork };

// A link between two devices (indices into Topology::devices), per direction.
struct Link {
  int a = 0;
  int b = 0;
  LinkKind kind = LinkKind::kSystem;
  double bandwidth_bytes_per_s = 0;
  double latency_s = 0;
};

struct Host {
  std::string name;
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  std::vector<NumaNode> numa_nodes;
};

struct Topology {
  std::string source;  // "this machine", "box.yaml"
  std::vector<Host> hosts;
  std::vector<DeviceInfo> devices;  // CPUs of all hosts, then GPUs, in host order
  std::vector<Link> links;
  std::vector<std::string> notes;  // what could not be seen, and why
};

// The index of device `id` ("cpu", "cuda:1"; "node1/cuda:0" on host "node1" when there are several
// hosts). NotFound lists the ids there are.
absl::StatusOr<int> FindDevice(const Topology& topology, absl::string_view id);

absl::string_view LinkKindName(LinkKind kind);                   // "nvlink", "pcie", ...
absl::StatusOr<LinkKind> ParseLinkKind(absl::string_view name);  // the inverse; names the choices

// The id of device `index` that FindDevice takes back: "cuda:1", or "node1/cuda:1" when there are
// several hosts.
std::string QualifiedDeviceId(const Topology& topology, int index);

// The way between two devices: the direct link of most bandwidth or, where there is none, the path
// through the CPUs of their hosts (smallest bandwidth, latencies added, the kind of the slowest
// part). Bandwidth 0: no way is known.
Link LinkBetween(const Topology& topology, int a, int b);

// This machine: host CPUs, NUMA nodes and memory through hwloc, GPUs through NVML when the driver
// is there. A missing driver is a note, no error. Limits of a container (cgroup memory, CPU
// affinity) count.
absl::StatusOr<Topology> DetectTopology();

// A cluster file, see clusters/README.md. InvalidArgument gives path, line and what was expected.
absl::StatusOr<Topology> ReadClusterFile(const std::string& path);

// Any file that describes machines, its kind told by its content: a cluster file, or what
// TopologyJson and TopologyYaml (format_topology.h) wrote. InvalidArgument names the kinds.
absl::StatusOr<Topology> ReadTopologyFile(const std::string& path);

// Reads from all of `bytes` of memory with `threads` threads, several times; the best rate in
// bytes per second, 0 when there is no memory for it. Takes about a second.
double MeasureMemoryBandwidth(int threads, int64_t bytes = int64_t{1} << 29);

}  // namespace tprun
