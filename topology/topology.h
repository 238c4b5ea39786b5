#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// What a machine, or several, consist of: plain values, whatever source they come from (live
// detection, a dump, a cluster file). Unknown numbers are 0 (ids: -1) unless said otherwise:
// unknown is never "none". Bandwidths are per direction.

// Where a fact comes from, by the name of its member in TopologyJson: {"memory_bytes": "nvml",
// "memory_bandwidth_bytes_per_s": "gpus.yaml"}. A member that is not in it was not stated.
using FactSources = std::map<std::string, std::string>;

enum class DeviceKind { kCpu, kGpu };

struct NumaNode {
  int id = 0;
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  std::string cpus;  // "0-15,32-47"
  int package = -1;  // the socket it is in; -1: unknown. Several nodes may share one (SNC, NPS)
};

// What somebody measured on this very device; the nominal figures stay beside it.
struct DeviceMeasurements {
  double memory_bandwidth_bytes_per_s = 0;  // read
  double host_to_device_bytes_per_s = 0;    // pinned memory
  double device_to_host_bytes_per_s = 0;
  std::map<std::string, double> matmul_ops_per_s;  // by dtype: {"bf16": 7.9e14}
  // Two ranks on this very device (a CPU), over MPI or as threads: a small all-reduce, and the
  // bytes of a large one by its time. 0: not measured.
  double rank_latency_s = 0;
  double rank_bandwidth_bytes_per_s = 0;
  // Memory that others allocate in a process on this GPU, as GpuOverheads has them; they go before
  // those of the card's type. 0: not measured.
  int64_t context_bytes = 0;
  int64_t nccl_base_bytes = 0;
  int64_t nccl_channel_bytes = 0;
  std::string date;  // "2026-11-20"
};

// A process that holds memory of a GPU.
struct DeviceProcess {
  int64_t pid = 0;
  std::string name;  // "" when it may not be seen
  int64_t memory_bytes = 0;
};

// A slice of a GPU in MIG mode; CUDA sees it as a device of its own.
struct MigInstance {
  std::string profile;       // "2g.20gb"
  std::string uuid;          // "MIG-ec4c3916-..."; "" if unknown
  int64_t memory_bytes = 0;  // 0: unknown
};

// A CPU package set (one per host, id "cpu") or a GPU (id "cuda:N").
struct DeviceInfo {
  std::string id;
  DeviceKind kind = DeviceKind::kCpu;
  std::string name;                         // "NVIDIA GeForce RTX 3090", "Intel(R) Xeon(R) ..."
  int host = 0;                             // index into Topology::hosts
  int numa_node = -1;                       // -1: unknown or spread over several
  std::string cpus;                         // the CPUs near it: "0-15,32-47"
  int64_t memory_bytes = 0;                 // total
  int64_t available_bytes = 0;              // free now
  double memory_bandwidth_bytes_per_s = 0;  // nominal or estimated
  std::map<std::string, double> peak_ops_per_s;  // dense, by dtype, nominal: {"bf16": 9.9e14}
  DeviceMeasurements measured;
  FactSources sources;
  // CPU only.
  int cores = 0;                 // physical
  int threads = 0;               // hardware threads this process may use
  std::vector<std::string> isa;  // "avx2", "avx512f", ...
  // GPU only.
  std::string pci_bus_id;                // "0000:65:00.0"
  std::string pci_id;                    // vendor and device: "10de:2204"
  std::vector<std::string> pci_bridges;  // bus ids, from the host bridge down to the card
  std::string compute_capability;        // "8.6"
  // What the link runs at when busy: an idle GPU drops its generation to save power.
  int pcie_generation = 0;
  int pcie_max_generation = 0;  // of card and slot together
  int pcie_width = 0;           // lanes
  int pcie_max_width = 0;       // lanes of the card; more than pcie_width in a narrow slot
  int nvlink_count = 0;         // active links of the card
  double nvlink_bandwidth_bytes_per_s = 0;  // of one link
  int memory_numa_node = -1;                // the node that its own memory is (Grace Hopper)
  std::string uuid;                         // "GPU-8932f937-..."
  std::string mig;  // "": unknown, "off", "on", or a profile such as "2g.20gb"
  std::vector<MigInstance> mig_instances;
  std::vector<DeviceProcess> processes;
};

// What joins two devices, in the terms of `nvidia-smi topo -m`.
enum class LinkKind {
  kNvlink,
  kC2c,     // NVLink-C2C between a CPU and its GPU
  kPix,     // at most one PCIe bridge
  kPxb,     // several PCIe bridges, no host bridge
  kPhb,     // through a PCIe host bridge
  kNode,    // between host bridges of one NUMA node
  kPcie,    // PCIe, how far is not known
  kSystem,  // SYS: between NUMA nodes or sockets
  kNetwork,
};

// A network card of a host.
struct Nic {
  std::string name;  // "mlx5_0"
  int host = 0;
  int numa_node = -1;
  std::string pci_bus_id;
  std::string pci_id;
  std::vector<std::string> pci_bridges;
  double bandwidth_bytes_per_s = 0;     // all ports together
  std::vector<std::string> interfaces;  // all its names: "mlx5_0", "ib0"
  std::map<int, LinkKind> gpu_paths;    // the way to each GPU (index into Topology::devices)
  FactSources sources;
};

enum class PeerAccess { kUnknown, kYes, kNo };

// A link between two devices (indices into Topology::devices), per direction.
struct Link {
  int a = 0;
  int b = 0;
  LinkKind kind = LinkKind::kSystem;
  double bandwidth_bytes_per_s = 0;
  double latency_s = 0;
  int count = 0;            // kNvlink: bonded links
  bool via_switch = false;  // kNvlink through NVSwitch: the links are shared by all peers
  PeerAccess peer_access = PeerAccess::kUnknown;
  std::string peer_access_reason;     // why not
  bool peer_access_verified = false;  // written by one side and read by the other
  double measured_bandwidth_bytes_per_s = 0;
  double measured_latency_s = 0;
  std::string source;
};

// A host, or `count` equal ones that are not listed one by one: the devices, links and NICs of the
// topology are then those of each of them. They are called name0, name1, ...
struct Host {
  std::string name;
  int count = 1;
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  std::vector<NumaNode> numa_nodes;
  std::map<std::string, std::string> software;  // {"driver": "535.154.05", "cuda": "12.2"}
};

// A network that joins hosts.
struct Fabric {
  std::string name;                    // "ib"
  LinkKind kind = LinkKind::kNetwork;  // kNvlink: NVLink switches between hosts (NVL72)
  std::vector<int> hosts;              // indices into Topology::hosts
  double bandwidth_bytes_per_s = 0;    // of one host, all its NICs in this fabric together
  int nics_per_host = 1;               // one path uses one of them (kNvlink: one per GPU)
  double latency_s = 0;
  double oversubscription = 1;  // 2: all hosts together get half of their bandwidth
};

struct Topology {
  std::string source;  // "this machine", "box.yaml"
  std::vector<Host> hosts;
  std::vector<DeviceInfo> devices;  // CPUs of all hosts, then GPUs, in host order
  std::vector<Link> links;
  std::vector<Nic> nics;
  std::vector<Fabric> fabrics;
  std::vector<std::string> notes;  // what could not be seen, and why; what is wrong
};

// One device of one of a host's equal copies.
struct DeviceRef {
  int device = 0;    // index into Topology::devices
  int instance = 0;  // which of Host::count
  bool operator==(const DeviceRef&) const = default;
};

// The device called `id` ("cpu", "cuda:1"; "node17/cuda:0" when there are several hosts). NotFound
// lists the ids there are.
absl::StatusOr<DeviceRef> LocateDevice(const Topology& topology, absl::string_view id);

// The id that LocateDevice takes back.
std::string DeviceId(const Topology& topology, DeviceRef ref);

// Measured where somebody did, else nominal.
double MemoryBandwidth(const DeviceInfo& device);

absl::string_view LinkKindName(LinkKind kind);                   // "nvlink", "pcie", ...
absl::StatusOr<LinkKind> ParseLinkKind(absl::string_view name);  // the inverse; names the choices

// Every device of every host: all CPUs, then all GPUs, in the order of hosts and their copies; at
// most `max` of them.
std::vector<DeviceRef> AllDeviceRefs(const Topology& topology, size_t max = 1 << 20);

// The name of one of a host's equal copies: "box", or "node17" where Host::count is not 1.
std::string HostName(const Host& host, int instance);

// Hosts, with every one of the equal copies counted.
int64_t CountHosts(const Topology& topology);

// DeviceId of the first of the equal hosts.
std::string QualifiedDeviceId(const Topology& topology, int index);

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
