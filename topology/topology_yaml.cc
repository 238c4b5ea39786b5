#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/format_topology.h"

namespace tprun {
namespace {

// A double-quoted YAML text that the reader takes; JSON's escapes are YAML's.
std::string Quoted(const std::string& text) {
  constexpr size_t kMost = 1000;
  std::string clean = text.substr(0, kMost);
  for (char& c : clean) c = absl::ascii_iscntrl(c) ? ' ' : c;
  return Json(clean).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Size(int64_t bytes) {
  if (bytes > 0 && bytes % kGiB == 0) return absl::StrCat(bytes / kGiB, "GiB");
  if (bytes > 0 && bytes % kMiB == 0) return absl::StrCat(bytes / kMiB, "MiB");
  return absl::StrCat(bytes, "B");
}

// A plain number, as the reader takes no exponent: the shortest of those that read back equal.
std::string Plain(double value) {
  for (int digits = 0; digits < 30; ++digits) {
    const std::string text = absl::StrFormat("%.*f", digits, value);
    if (std::strtod(text.c_str(), nullptr) == value) return text;
  }
  return absl::StrFormat("%.30f", value);
}

// In `unit` where that gives back the same double, else in `base`.
std::string Scaled(double value, double scale, int max_digits, const char* unit, const char* base) {
  for (int digits = 0; digits <= max_digits; ++digits) {
    const std::string text = absl::StrFormat("%.*f", digits, value / scale);
    if (std::strtod(text.c_str(), nullptr) * scale == value) return text + unit;
  }
  return Plain(value) + base;
}

std::string Rate(double bytes_per_s) { return Scaled(bytes_per_s, 1e9, 6, "GB/s", "B/s"); }
std::string Ops(double ops_per_s) { return Scaled(ops_per_s, 1e12, 4, "TFLOPS", "OPS"); }
std::string Time(double seconds) { return Scaled(seconds, 1e-6, 3, "us", "s"); }

// The members of a mapping that are worth writing, one a line or in braces.
class Members {
 public:
  void Add(absl::string_view key, const std::string& value) {
    parts_.push_back(absl::StrCat(key, ": ", value));
  }
  void AddText(absl::string_view key, const std::string& text) {
    if (!text.empty()) Add(key, Quoted(text));
  }
  void AddInt(absl::string_view key, int64_t value, int64_t otherwise) {
    if (value != otherwise) Add(key, absl::StrCat(value));
  }
  void AddRate(absl::string_view key, double value) {
    if (value != 0) Add(key, Rate(value));
  }
  void AddTime(absl::string_view key, double value) {
    if (value != 0) Add(key, Time(value));
  }
  void AddTexts(absl::string_view key, const std::vector<std::string>& texts) {
    if (texts.empty()) return;
    Add(key, absl::StrCat("[",
                          absl::StrJoin(texts, ", ",
                                        [](std::string* out, const std::string& text) {
                                          out->append(Quoted(text));
                                        }),
                          "]"));
  }
  void AddMap(absl::string_view key, const std::map<std::string, std::string>& map) {
    Members members;
    for (const auto& [name, text] : map) members.Add(Quoted(name), Quoted(text));
    if (!map.empty()) Add(key, members.Braces());
  }
  void AddOps(absl::string_view key, const std::map<std::string, double>& rates) {
    Members members;
    for (const auto& [type, rate] : rates) members.Add(Quoted(type), Ops(rate));
    if (!rates.empty()) Add(key, members.Braces());
  }

  bool empty() const { return parts_.empty(); }
  std::string Braces() const { return absl::StrCat("{", absl::StrJoin(parts_, ", "), "}"); }
  // The first line after `first`, the others as far in.
  std::string Lines(const std::string& first) const {
    const std::string rest = "\n" + std::string(first.size(), ' ');
    return absl::StrCat(first, absl::StrJoin(parts_, rest), "\n");
  }

 private:
  std::vector<std::string> parts_;
};

void AddMeasured(const DeviceMeasurements& measured, Members& out) {
  Members members;
  members.AddRate("bandwidth", measured.memory_bandwidth_bytes_per_s);
  members.AddRate("host_to_device", measured.host_to_device_bytes_per_s);
  members.AddRate("device_to_host", measured.device_to_host_bytes_per_s);
  members.AddOps("matmul", measured.matmul_ops_per_s);
  members.AddTime("rank_latency", measured.rank_latency_s);
  members.AddRate("rank_bandwidth", measured.rank_bandwidth_bytes_per_s);
  if (measured.context_bytes > 0) members.Add("context", Size(measured.context_bytes));
  if (measured.nccl_base_bytes > 0) members.Add("nccl_base", Size(measured.nccl_base_bytes));
  if (measured.nccl_channel_bytes > 0)
    members.Add("nccl_channel", Size(measured.nccl_channel_bytes));
  members.AddText("date", measured.date);
  if (!members.empty()) out.Add("measured", members.Braces());
}

// What CPUs and GPUs have in common.
void AddDevice(const DeviceInfo& device, Members& out) {
  out.Add("name", Quoted(device.name));
  out.Add("memory", Size(device.memory_bytes));
  out.Add("available", Size(device.available_bytes));
  out.Add("bandwidth", Rate(device.memory_bandwidth_bytes_per_s));
  AddMeasured(device.measured, out);
  out.AddOps("peak", device.peak_ops_per_s);
  out.AddInt("numa_node", device.numa_node, -1);
  out.AddText("cpus", device.cpus);
}

std::string CpuYaml(const DeviceInfo& cpu) {
  Members out;
  const auto count = [](int value) { return value > 0 ? absl::StrCat(value) : "unknown"; };
  out.Add("cores", count(cpu.cores));
  out.Add("threads", count(cpu.threads));
  AddDevice(cpu, out);
  out.AddTexts("isa", cpu.isa);
  out.AddMap("sources", cpu.sources);
  return absl::StrCat("    cpu:\n", out.Lines("      "));
}

std::string NumaYaml(const Host& host) {
  std::string yaml;
  for (const NumaNode& node : host.numa_nodes) {
    Members out;
    out.Add("id", absl::StrCat(node.id));
    out.Add("memory", Size(node.memory_bytes));
    out.Add("available", Size(node.available_bytes));
    out.AddText("cpus", node.cpus);
    out.AddInt("package", node.package, -1);
    absl::StrAppend(&yaml, "      - ", out.Braces(), "\n");
  }
  return yaml.empty() ? "" : "    numa:\n" + yaml;
}

void AddPcie(const DeviceInfo& gpu, Members& out) {
  if (gpu.pcie_generation > 0 && gpu.pcie_width > 0) {
    out.Add("pcie", absl::StrCat(gpu.pcie_generation, "x", gpu.pcie_width));
  } else {
    out.Add("pcie", "unknown");
    out.AddInt("pcie_generation", gpu.pcie_generation, 0);
    out.AddInt("pcie_width", gpu.pcie_width, 0);
  }
  out.AddInt("pcie_max_generation", gpu.pcie_max_generation, 0);
  out.Add("pcie_max_width", absl::StrCat(gpu.pcie_max_width));
}

void AddUse(const DeviceInfo& gpu, Members& out) {
  out.AddText("mig", gpu.mig);
  std::vector<std::string> instances;
  for (const MigInstance& instance : gpu.mig_instances) {
    Members members;
    members.Add("profile", Quoted(instance.profile));
    members.AddText("uuid", instance.uuid);
    members.Add("memory", Size(instance.memory_bytes));
    instances.push_back(members.Braces());
  }
  std::vector<std::string> processes;
  for (const DeviceProcess& process : gpu.processes) {
    Members members;
    members.Add("pid", absl::StrCat(process.pid));
    members.AddText("name", process.name);
    members.Add("memory", Size(process.memory_bytes));
    processes.push_back(members.Braces());
  }
  if (!instances.empty()) {
    out.Add("mig_instances", absl::StrCat("[", absl::StrJoin(instances, ", "), "]"));
  }
  if (!processes.empty()) {
    out.Add("processes", absl::StrCat("[", absl::StrJoin(processes, ", "), "]"));
  }
}

std::string GpuYaml(const DeviceInfo& gpu, size_t number) {
  Members out;
  if (gpu.id != absl::StrCat("cuda:", number)) out.Add("id", Quoted(gpu.id));
  AddDevice(gpu, out);
  // Said even where it is not known: the reader would ask the catalogue.
  out.Add("compute_capability", Quoted(gpu.compute_capability));
  AddPcie(gpu, out);
  out.AddInt("memory_numa_node", gpu.memory_numa_node, -1);
  out.AddText("pci_bus_id", gpu.pci_bus_id);
  out.AddText("pci_id", gpu.pci_id);
  out.AddTexts("pci_bridges", gpu.pci_bridges);
  out.AddInt("nvlink_count", gpu.nvlink_count, 0);
  out.AddRate("nvlink_bandwidth", gpu.nvlink_bandwidth_bytes_per_s);
  out.AddText("uuid", gpu.uuid);
  AddUse(gpu, out);
  out.AddMap("sources", gpu.sources);
  return out.Lines("      - ");
}

std::string NicYaml(const Topology& topology, const Nic& nic) {
  Members out;
  out.Add("name", Quoted(nic.name));
  out.AddRate("bandwidth", nic.bandwidth_bytes_per_s);
  out.AddInt("numa_node", nic.numa_node, -1);
  out.AddText("pci_bus_id", nic.pci_bus_id);
  out.AddText("pci_id", nic.pci_id);
  out.AddTexts("pci_bridges", nic.pci_bridges);
  out.AddTexts("interfaces", nic.interfaces);
  Members paths;
  for (const auto& [device, kind] : nic.gpu_paths) {
    paths.Add(Quoted(topology.devices[device].id), std::string(LinkKindName(kind)));
  }
  if (!paths.empty()) out.Add("gpu_paths", paths.Braces());
  out.AddMap("sources", nic.sources);
  return out.Lines("      - ");
}

// What stands below each host, in the order of the topology.
struct HostParts {
  const DeviceInfo* cpu = nullptr;
  std::string gpus;
  std::string nics;
  size_t gpu_count = 0;
};

std::string HostYaml(const Host& host, const HostParts& parts) {
  Members out;
  out.Add("name", Quoted(host.name));
  out.AddInt("count", host.count, 1);
  if (parts.cpu == nullptr || host.memory_bytes != parts.cpu->memory_bytes) {
    out.Add("memory", Size(host.memory_bytes));
  }
  if (parts.cpu == nullptr || host.available_bytes != parts.cpu->available_bytes) {
    out.Add("available", Size(host.available_bytes));
  }
  out.AddMap("software", host.software);
  std::string yaml = out.Lines("  - ");
  absl::StrAppend(&yaml, parts.cpu == nullptr ? "    cpu: unknown\n" : CpuYaml(*parts.cpu),
                  NumaYaml(host));
  if (!parts.gpus.empty()) absl::StrAppend(&yaml, "    gpus:\n", parts.gpus);
  if (!parts.nics.empty()) absl::StrAppend(&yaml, "    nics:\n", parts.nics);
  return yaml;
}

std::string HostsYaml(const Topology& topology) {
  std::vector<HostParts> parts(topology.hosts.size());
  for (const DeviceInfo& device : topology.devices) {
    HostParts& host = parts[device.host];
    if (device.kind == DeviceKind::kCpu) {
      host.cpu = &device;
    } else {
      absl::StrAppend(&host.gpus, GpuYaml(device, host.gpu_count++));
    }
  }
  for (const Nic& nic : topology.nics) {
    absl::StrAppend(&parts[nic.host].nics, NicYaml(topology, nic));
  }
  std::string yaml = "hosts:\n";
  for (size_t i = 0; i < topology.hosts.size(); ++i) {
    absl::StrAppend(&yaml, HostYaml(topology.hosts[i], parts[i]));
  }
  return yaml;
}

// In a file a device of equal hosts goes without their number: it is that of each of them.
std::string EndId(const Topology& topology, int device) {
  const DeviceInfo& end = topology.devices[device];
  if (topology.hosts.size() == 1 && topology.hosts[0].count == 1) return end.id;
  return absl::StrCat(topology.hosts[end.host].name, "/", end.id);
}

std::string LinkYaml(const Topology& topology, const Link& link) {
  Members out;
  out.Add("a", Quoted(EndId(topology, link.a)));
  out.Add("b", Quoted(EndId(topology, link.b)));
  out.Add("kind", std::string(LinkKindName(link.kind)));
  out.Add("bandwidth", Rate(link.bandwidth_bytes_per_s));
  out.AddTime("latency", link.latency_s);
  out.AddInt("count", link.count, 0);
  if (link.via_switch) out.Add("switch", "true");
  if (link.peer_access != PeerAccess::kUnknown) {
    out.Add("p2p", link.peer_access == PeerAccess::kYes ? "yes" : "no");
  }
  out.AddText("p2p_reason", link.peer_access_reason);
  if (link.peer_access_verified) out.Add("p2p_verified", "true");
  out.AddRate("measured_bandwidth", link.measured_bandwidth_bytes_per_s);
  out.AddTime("measured_latency", link.measured_latency_s);
  out.AddText("source", link.source);
  return absl::StrCat("  - ", out.Braces(), "\n");
}

std::string FabricYaml(const Topology& topology, const Fabric& fabric) {
  Members out;
  out.Add("name", Quoted(fabric.name));
  if (fabric.kind == LinkKind::kNvlink) out.Add("kind", "nvlink");
  out.Add("bandwidth", Rate(fabric.bandwidth_bytes_per_s));
  out.AddInt("nics", fabric.nics_per_host, 1);
  out.AddTime("latency", fabric.latency_s);
  if (fabric.oversubscription != 1) out.Add("oversubscription", Plain(fabric.oversubscription));
  bool all = fabric.hosts.size() == topology.hosts.size();
  std::vector<std::string> hosts;
  for (size_t i = 0; i < fabric.hosts.size(); ++i) {
    all = all && fabric.hosts[i] == static_cast<int>(i);
    hosts.push_back(Quoted(topology.hosts[fabric.hosts[i]].name));
  }
  if (!all) out.Add("hosts", absl::StrCat("[", absl::StrJoin(hosts, ", "), "]"));
  return absl::StrCat("  - ", out.Braces(), "\n");
}

}  // namespace

std::string TopologyYaml(const Topology& topology) {
  std::string yaml = absl::StrCat("# Written by tprun; all keys: clusters/README.md\nsource: ",
                                  Quoted(topology.source), "\n", HostsYaml(topology));
  if (!topology.fabrics.empty()) absl::StrAppend(&yaml, "fabrics:\n");
  for (const Fabric& fabric : topology.fabrics) {
    absl::StrAppend(&yaml, FabricYaml(topology, fabric));
  }
  absl::StrAppend(&yaml, "derive_links: false\n");
  if (!topology.links.empty()) absl::StrAppend(&yaml, "links:\n");
  for (const Link& link : topology.links) absl::StrAppend(&yaml, LinkYaml(topology, link));
  if (!topology.notes.empty()) absl::StrAppend(&yaml, "notes:\n");
  for (const std::string& note : topology.notes) {
    absl::StrAppend(&yaml, "  - ", Quoted(note), "\n");
  }
  return yaml;
}

}  // namespace tprun
