#include "topology/format_topology.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/cpu_list.h"
#include "topology/format_links.h"
#include "topology/format_measured.h"
#include "topology/stated_facts.h"
#include "topology/text_table.h"
#include "topology/text_view.h"

namespace tprun {
namespace {

constexpr size_t kShownHosts = 40;
constexpr size_t kShownDevices = 200;

std::string BytesOrUnknown(int64_t bytes) { return bytes > 0 ? FormatBytes(bytes) : "?"; }

std::string CountOrUnknown(int count) { return count > 0 ? absl::StrCat(count) : "?"; }

// Unknown where the memory is: nothing is then known to be used up. None is free only where
// somebody states it.
std::string FreeText(const DeviceInfo& device) {
  if (device.memory_bytes == 0) return "?";
  if (IsEstimate(device.sources, "available_bytes")) return "?";
  const bool is_stated = device.sources.count("available_bytes") > 0;
  return is_stated ? FormatBytes(device.available_bytes) : BytesOrUnknown(device.available_bytes);
}

// "driver 535.154.05, cuda 12.2".
std::string SoftwareText(const Host& host) {
  std::vector<std::string> parts;
  for (const char* name : {"driver", "cuda"}) {
    const auto version = host.software.find(name);
    if (version != host.software.end()) parts.push_back(absl::StrCat(name, " ", version->second));
  }
  return absl::StrJoin(parts, ", ");
}

// The GPUs of a NUMA node: "cuda:0-3".
std::string GpusOfNode(const TextView& view, int host, int node) {
  std::vector<int> numbers;
  for (int device : view.devices[host]) {
    const DeviceInfo& info = view.topology.devices[device];
    int number = 0;
    const bool is_near = info.kind == DeviceKind::kGpu && info.numa_node == node;
    if (is_near && absl::SimpleAtoi(info.id.substr(info.id.find(':') + 1), &number)) {
      numbers.push_back(number);
    }
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers.empty() ? "" : "cuda:" + FormatCpuList(numbers);
}

// A row for each NUMA node below its host. What is left out are nodes without anything: a Grace
// Hopper host has dozens for MIG.
void AddNumaRows(const TextView& view, int host, TextRows& rows) {
  constexpr size_t kShown = 16;
  const std::vector<NumaNode>& nodes = view.topology.hosts[host].numa_nodes;
  size_t shown = 0, left = 0;
  for (const NumaNode& node : nodes) {
    const std::string gpus = GpusOfNode(view, host, node.id);
    if (node.memory_bytes == 0 && node.cpus.empty() && gpus.empty()) continue;
    if (shown++ >= kShown) {
      ++left;
      continue;
    }
    const bool known = node.memory_bytes > 0;
    rows.push_back({absl::StrCat("  NUMA ", node.id), known ? FormatBytes(node.memory_bytes) : "",
                    known ? BytesOrUnknown(node.available_bytes) : "", ShortCpus(node.cpus), gpus,
                    ""});
  }
  if (left > 0) rows.push_back({absl::StrCat("  ... ", left, " more"), "", "", "", "", ""});
}

std::string HostTable(const TextView& view) {
  TextRows rows;
  size_t hidden = 0, shown = 0;
  for (size_t i = 0; i < view.topology.hosts.size(); ++i) {
    const Host& host = view.topology.hosts[i];
    if (!view.IsShown(static_cast<int>(i))) continue;
    if (shown++ >= kShownHosts) {
      hidden += view.count[i];
      continue;
    }
    const bool one_node = host.numa_nodes.size() == 1;
    rows.push_back({view.HostLabel(static_cast<int>(i)), BytesOrUnknown(host.memory_bytes),
                    BytesOrUnknown(host.memory_bytes > 0 ? host.available_bytes : 0),
                    one_node ? ShortCpus(host.numa_nodes[0].cpus) : "", "", SoftwareText(host)});
    if (!one_node) AddNumaRows(view, static_cast<int>(i), rows);
  }
  // Dumps of GPUs alone say nothing about the host.
  if (rows.size() == 1 && rows[0][1].text == "?" && rows[0][3].text.empty() &&
      rows[0][5].text.empty()) {
    return "";
  }
  std::vector<std::string> heads = {"host", "memory>", "free>", "CPUs", "GPUs", "software"};
  DropEmptyColumns(heads, rows);
  std::string text = TextTable(std::move(heads), rows, view.color);
  if (hidden > 0) absl::StrAppend(&text, "... ", hidden, " more hosts\n");
  return text;
}

// "on (3g.20gb, 4 x 1g.5gb)".
std::string MigText(const DeviceInfo& gpu) {
  std::vector<std::pair<std::string, int>> profiles;
  for (const MigInstance& instance : gpu.mig_instances) {
    if (profiles.empty() || profiles.back().first != instance.profile) {
      profiles.emplace_back(instance.profile, 0);
    }
    ++profiles.back().second;
  }
  std::vector<std::string> parts;
  for (const auto& [profile, count] : profiles) {
    parts.push_back(count == 1 ? profile : absl::StrCat(count, " x ", profile));
  }
  return parts.empty() ? gpu.mig : absl::StrCat(gpu.mig, " (", absl::StrJoin(parts, ", "), ")");
}

// `cpus_are_told`: in the rows of NUMA nodes.
std::string GpuDetails(const DeviceInfo& gpu, bool cpus_are_told) {
  std::vector<std::string> parts;
  if (!gpu.compute_capability.empty()) parts.push_back("sm " + gpu.compute_capability);
  if (gpu.pcie_generation > 0 || gpu.pcie_width > 0) {
    parts.push_back(absl::StrCat("PCIe ", SlotIsEstimate(gpu) ? "~" : "",
                                 CountOrUnknown(gpu.pcie_generation), "x",
                                 CountOrUnknown(gpu.pcie_width)));
  }
  if (gpu.nvlink_count > 0) {
    parts.push_back(absl::StrCat(gpu.nvlink_count, gpu.nvlink_count == 1 ? " NVLink" : " NVLinks"));
  }
  if (gpu.numa_node >= 0) parts.push_back(absl::StrCat("NUMA ", gpu.numa_node));
  if (!gpu.cpus.empty() && !cpus_are_told) parts.push_back("CPUs " + ShortCpus(gpu.cpus));
  if (!gpu.mig.empty() && gpu.mig != "off") parts.push_back("MIG " + MigText(gpu));
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
  return IsEstimate(device.sources, "memory_bandwidth_bytes_per_s") ? "estimated" : "nominal";
}

std::string DeviceTable(const TextView& view) {
  TextRows rows;
  size_t hidden = 0;
  for (size_t host = 0; host < view.devices.size(); ++host) {
    if (!view.IsShown(static_cast<int>(host))) continue;
    const bool cpus_are_told = !view.topology.hosts[host].numa_nodes.empty();
    for (int index : view.devices[host]) {
      const DeviceInfo& device = view.topology.devices[index];
      if (rows.size() == kShownDevices) {
        hidden += view.count[host];
        continue;
      }
      rows.push_back({QualifiedDeviceId(view.topology, index), device.name,
                      BytesOrUnknown(device.memory_bytes), FreeText(device),
                      RateOrUnknown(MemoryBandwidth(device)), TextCell(Origin(device), kDim),
                      device.kind == DeviceKind::kCpu ? CpuDetails(device)
                                                      : GpuDetails(device, cpus_are_told)});
    }
  }
  std::vector<std::string> heads = {"device",     "name", "memory>", "free>",
                                    "bandwidth>", "",     "details"};
  DropEmptyColumns(heads, rows);
  std::string text = TextTable(std::move(heads), rows, view.color);
  if (hidden > 0) {
    absl::StrAppend(&text, "... ", hidden, " more devices; --format=json has them all\n");
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

// What a dump that numbers its cards and no more leaves open.
std::string NamesNote(const Topology& topology) {
  bool any = false;
  for (const DeviceInfo& device : topology.devices) {
    if (device.kind != DeviceKind::kGpu) continue;
    if (!device.name.empty() || device.memory_bytes > 0) return "";
    any = true;
  }
  return any ? "names and memory of the GPUs are not stated (add `nvidia-smi -q`)" : "";
}

}  // namespace

std::string TopologyText(const Topology& topology, bool color) {
  const TextView view(topology, color);
  std::string text = absl::StrCat(Styled(topology.source, kBold, color), "\n");
  for (const std::string& part :
       {HostTable(view), DeviceTable(view), MeasuredText(view), LinksText(view), NicsText(view),
        NetworkText(view), ExchangeText(view), ProblemsText(view)}) {
    if (!part.empty()) absl::StrAppend(&text, "\n", part);
  }
  std::vector<std::string> notes = topology.notes;
  for (std::string note : {NamesNote(topology), JoiningNote(topology)}) {
    if (!note.empty()) notes.push_back(std::move(note));
  }
  if (!notes.empty()) absl::StrAppend(&text, "\n");
  for (const std::string& note : notes) {
    absl::StrAppend(&text, Styled(absl::StrCat("note: ", note), kDim, color), "\n");
  }
  return text;
}

}  // namespace tprun
