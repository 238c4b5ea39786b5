#include "topology/format_topology.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/format_links.h"
#include "topology/format_measured.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

constexpr size_t kShownHosts = 40;
constexpr size_t kShownDevices = 200;

std::string BytesOrUnknown(int64_t bytes) { return bytes > 0 ? FormatBytes(bytes) : "?"; }

std::string CountOrUnknown(int count) { return count > 0 ? absl::StrCat(count) : "?"; }

std::string RateOrUnknown(double rate) { return rate > 0 ? FormatBandwidth(rate) : "?"; }

// Unknown where the memory is: nothing is then known to be used up. None is free only where
// somebody states it.
std::string FreeText(const DeviceInfo& device) {
  const auto source = device.sources.find("available_bytes");
  const bool is_stated = source != device.sources.end();
  if (device.memory_bytes == 0) return "?";
  if (is_stated && absl::StartsWith(source->second, "estimate")) return "?";
  return is_stated ? FormatBytes(device.available_bytes) : BytesOrUnknown(device.available_bytes);
}

std::string NumaNodeText(const NumaNode& node) {
  std::vector<std::string> parts;
  if (node.memory_bytes > 0) {
    parts.push_back(
        absl::StrCat(BytesOrUnknown(node.available_bytes), " of ", FormatBytes(node.memory_bytes)));
  }
  if (!node.cpus.empty()) parts.push_back("CPUs " + node.cpus);
  return absl::StrCat(node.id, parts.empty() ? "" : ": ", absl::StrJoin(parts, ", "));
}

// Many NUMA nodes that are alike need no line of their own.
std::string NumaText(const Host& host) {
  std::vector<std::string> nodes;
  for (const NumaNode& node : host.numa_nodes) {
    if (nodes.size() == 4) {
      nodes.push_back(absl::StrCat("... (", host.numa_nodes.size(), " in all)"));
      break;
    }
    nodes.push_back(NumaNodeText(node));
  }
  return absl::StrJoin(nodes, "; ");
}

std::string HostTable(const Topology& topology, bool color) {
  TextRows rows;
  for (const Host& host : topology.hosts) {
    if (rows.size() == kShownHosts) break;
    const std::string name =
        host.count == 1 ? host.name
                        : absl::StrCat(HostName(host, 0), " ... ", HostName(host, host.count - 1));
    rows.push_back({name, BytesOrUnknown(host.memory_bytes),
                    BytesOrUnknown(host.memory_bytes > 0 ? host.available_bytes : 0),
                    NumaText(host)});
  }
  std::string text = TextTable({"host", "memory>", "free>", "NUMA nodes (free)"}, rows, color);
  if (topology.hosts.size() > kShownHosts) {
    absl::StrAppend(&text, "... ", topology.hosts.size() - kShownHosts, " more hosts\n");
  }
  return text;
}

std::string GpuDetails(const DeviceInfo& gpu) {
  std::vector<std::string> parts;
  if (!gpu.compute_capability.empty()) parts.push_back("sm " + gpu.compute_capability);
  if (gpu.pcie_generation > 0 || gpu.pcie_width > 0) {
    parts.push_back(absl::StrCat("PCIe ", CountOrUnknown(gpu.pcie_generation), "x",
                                 CountOrUnknown(gpu.pcie_width)));
  }
  if (gpu.nvlink_count > 0) {
    parts.push_back(absl::StrCat(gpu.nvlink_count, gpu.nvlink_count == 1 ? " NVLink" : " NVLinks"));
  }
  if (gpu.numa_node >= 0) parts.push_back(absl::StrCat("NUMA ", gpu.numa_node));
  if (!gpu.mig.empty() && gpu.mig != "off") parts.push_back("MIG " + gpu.mig);
  if (!gpu.pci_bus_id.empty()) parts.push_back(gpu.pci_bus_id);
  return absl::StrJoin(parts, ", ");
}

std::string CpuDetails(const DeviceInfo& cpu) {
  std::vector<std::string> parts;
  if (cpu.cores > 0) {
    parts.push_back(absl::StrCat(cpu.cores, cpu.cores == 1 ? " core, " : " cores, ", cpu.threads,
                                 cpu.threads == 1 ? " thread" : " threads"));
  }
  if (!cpu.isa.empty()) parts.push_back(absl::StrJoin(cpu.isa, " "));
  return absl::StrJoin(parts, ", ");
}

// Where the bandwidth comes from.
std::string Origin(const DeviceInfo& device) {
  if (device.measured.memory_bandwidth_bytes_per_s > 0) return "measured";
  if (device.memory_bandwidth_bytes_per_s <= 0) return "";
  const auto source = device.sources.find("memory_bandwidth_bytes_per_s");
  const bool estimate =
      source != device.sources.end() && absl::StartsWith(source->second, "estimate");
  return estimate ? "estimated" : "nominal";
}

std::string DeviceTable(const Topology& topology, bool color) {
  TextRows rows;
  for (size_t i = 0; i < topology.devices.size() && rows.size() < kShownDevices; ++i) {
    const DeviceInfo& device = topology.devices[i];
    rows.push_back({QualifiedDeviceId(topology, static_cast<int>(i)), device.name,
                    BytesOrUnknown(device.memory_bytes), FreeText(device),
                    RateOrUnknown(MemoryBandwidth(device)), TextCell(Origin(device), kDim),
                    device.kind == DeviceKind::kCpu ? CpuDetails(device) : GpuDetails(device)});
  }
  std::string text =
      TextTable({"device", "name", "memory>", "free>", "bandwidth>", "", "details"}, rows, color);
  if (topology.devices.size() > kShownDevices) {
    absl::StrAppend(&text, "... ", topology.devices.size() - kShownDevices,
                    " more devices; --format=json has them all\n");
  }
  return text;
}

bool IsOfNvidiaSmi(const DeviceInfo& device) {
  for (const auto& [fact, source] : device.sources) {
    if (absl::StartsWith(source, "nvidia-smi")) return true;
  }
  return false;
}

// What dumps about single cards leave open.
std::string JoiningNote(const Topology& topology) {
  for (const Link& link : topology.links) {
    const DeviceInfo& a = topology.devices[link.a];
    const DeviceInfo& b = topology.devices[link.b];
    if (link.kind != LinkKind::kPcie || link.peer_access != PeerAccess::kUnknown) continue;
    if (a.kind == DeviceKind::kCpu || b.kind == DeviceKind::kCpu) continue;
    if (!IsOfNvidiaSmi(a) || !IsOfNvidiaSmi(b)) continue;
    return "how the GPUs are joined is not stated (add `nvidia-smi topo -m`)";
  }
  return "";
}

}  // namespace

std::string TopologyText(const Topology& topology, bool color) {
  std::string text = absl::StrCat(Styled(topology.source, kBold, color), "\n");
  for (const std::string& part :
       {HostTable(topology, color), DeviceTable(topology, color), MeasuredText(topology, color),
        LinksText(topology, color), NetworkText(topology, color), ExchangeText(topology, color),
        ProblemsText(topology, color)}) {
    if (!part.empty()) absl::StrAppend(&text, "\n", part);
  }
  std::vector<std::string> notes = topology.notes;
  if (std::string note = JoiningNote(topology); !note.empty()) notes.push_back(std::move(note));
  if (!notes.empty()) absl::StrAppend(&text, "\n");
  for (const std::string& note : notes) {
    absl::StrAppend(&text, Styled(absl::StrCat("note: ", note), kDim, color), "\n");
  }
  return text;
}

}  // namespace tprun
