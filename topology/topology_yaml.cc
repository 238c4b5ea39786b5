#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/format_topology.h"

namespace tprun {
namespace {

// A double-quoted YAML text; JSON's escapes are YAML's.
std::string Quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
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

// GB/s where that gives back the same double.
std::string Rate(double bytes_per_s) {
  for (int digits = 0; digits <= 6; ++digits) {
    const std::string text = absl::StrFormat("%.*f", digits, bytes_per_s / 1e9);
    if (std::strtod(text.c_str(), nullptr) * 1e9 == bytes_per_s) return text + "GB/s";
  }
  return Plain(bytes_per_s) + "B/s";
}

std::string Time(double seconds) {
  for (int digits = 0; digits <= 3; ++digits) {
    const std::string text = absl::StrFormat("%.*f", digits, seconds * 1e6);
    if (std::strtod(text.c_str(), nullptr) * 1e-6 == seconds) return text + "us";
  }
  return Plain(seconds) + "s";
}

std::string CpuYaml(const DeviceInfo& cpu) {
  std::string yaml = "    cpu:\n";
  absl::StrAppend(&yaml, "      name: ", Quoted(cpu.name), "\n      cores: ", cpu.cores,
                  "\n      threads: ", cpu.threads, "\n      memory: ", Size(cpu.memory_bytes));
  absl::StrAppend(&yaml, "\n      available: ", Size(cpu.available_bytes),
                  "\n      bandwidth: ", Rate(cpu.memory_bandwidth_bytes_per_s), "\n");
  if (cpu.bandwidth_measured) absl::StrAppend(&yaml, "      measured: true\n");
  if (!cpu.isa.empty()) absl::StrAppend(&yaml, "      isa: [", absl::StrJoin(cpu.isa, ", "), "]\n");
  if (cpu.numa_node >= 0) absl::StrAppend(&yaml, "      numa_node: ", cpu.numa_node, "\n");
  return yaml;
}

std::string NumaYaml(const Host& host) {
  if (host.numa_nodes.empty()) return "";
  std::string yaml = "    numa:\n";
  for (const NumaNode& node : host.numa_nodes) {
    absl::StrAppend(&yaml, "      - {id: ", node.id, ", memory: ", Size(node.memory_bytes),
                    ", available: ", Size(node.available_bytes));
    if (!node.cpus.empty()) absl::StrAppend(&yaml, ", cpus: ", Quoted(node.cpus));
    absl::StrAppend(&yaml, "}\n");
  }
  return yaml;
}

std::string GpuYaml(const DeviceInfo& gpu) {
  std::string yaml =
      absl::StrCat("      - name: ", Quoted(gpu.name), "\n        memory: ", Size(gpu.memory_bytes),
                   "\n        available: ", Size(gpu.available_bytes), "\n");
  absl::StrAppend(&yaml, "        bandwidth: ", Rate(gpu.memory_bandwidth_bytes_per_s), "\n");
  if (gpu.bandwidth_measured) absl::StrAppend(&yaml, "        measured: true\n");
  if (!gpu.compute_capability.empty()) {
    absl::StrAppend(&yaml, "        compute_capability: ", Quoted(gpu.compute_capability), "\n");
  }
  const bool known = gpu.pcie_generation > 0 && gpu.pcie_width > 0;
  absl::StrAppend(&yaml, "        pcie: ",
                  known ? absl::StrCat(gpu.pcie_generation, "x", gpu.pcie_width) : "unknown",
                  "\n        pcie_max_width: ", gpu.pcie_max_width, "\n");
  if (gpu.numa_node >= 0) absl::StrAppend(&yaml, "        numa_node: ", gpu.numa_node, "\n");
  if (!gpu.pci_bus_id.empty()) {
    absl::StrAppend(&yaml, "        pci_bus_id: ", Quoted(gpu.pci_bus_id), "\n");
  }
  if (!gpu.uuid.empty()) absl::StrAppend(&yaml, "        uuid: ", Quoted(gpu.uuid), "\n");
  return yaml;
}

std::string HostYaml(const Topology& topology, int index) {
  const Host& host = topology.hosts[index];
  std::string yaml = absl::StrCat("  - name: ", Quoted(host.name), "\n");
  std::string gpus;
  for (const DeviceInfo& device : topology.devices) {
    if (device.host != index) continue;
    if (device.kind == DeviceKind::kCpu) {
      absl::StrAppend(&yaml, CpuYaml(device));
    } else {
      absl::StrAppend(&gpus, GpuYaml(device));
    }
  }
  absl::StrAppend(&yaml, NumaYaml(host));
  if (!gpus.empty()) absl::StrAppend(&yaml, "    gpus:\n", gpus);
  return yaml;
}

}  // namespace

std::string TopologyYaml(const Topology& topology) {
  std::string yaml = absl::StrCat("# Written by tprun: ", Quoted(topology.source), "\nhosts:\n");
  for (size_t i = 0; i < topology.hosts.size(); ++i) {
    absl::StrAppend(&yaml, HostYaml(topology, static_cast<int>(i)));
  }
  absl::StrAppend(&yaml, "derive_links: false\n");
  if (!topology.links.empty()) absl::StrAppend(&yaml, "links:\n");
  for (const Link& link : topology.links) {
    absl::StrAppend(&yaml, "  - {a: ", Quoted(QualifiedDeviceId(topology, link.a)),
                    ", b: ", Quoted(QualifiedDeviceId(topology, link.b)),
                    ", kind: ", LinkKindName(link.kind),
                    ", bandwidth: ", Rate(link.bandwidth_bytes_per_s));
    if (link.latency_s > 0) absl::StrAppend(&yaml, ", latency: ", Time(link.latency_s));
    absl::StrAppend(&yaml, "}\n");
  }
  if (!topology.notes.empty()) absl::StrAppend(&yaml, "notes:\n");
  for (const std::string& note : topology.notes) {
    absl::StrAppend(&yaml, "  - ", Quoted(note), "\n");
  }
  return yaml;
}

}  // namespace tprun
