#include "topology/format_topology.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"

namespace tprun {
namespace {

constexpr absl::string_view kBold = "\x1b[1m";
constexpr absl::string_view kDim = "\x1b[2m";
constexpr absl::string_view kReset = "\x1b[0m";

using Rows = std::vector<std::vector<std::string>>;

std::string Styled(absl::string_view text, absl::string_view style, bool color) {
  return color ? absl::StrCat(style, text, kReset) : std::string(text);
}

// Columns left-aligned, but those of numbers, whose heading ends in '>'.
std::string Table(std::vector<std::string> heads, const Rows& rows, bool color) {
  std::vector<bool> right;
  std::vector<size_t> widths;
  for (std::string& head : heads) {
    right.push_back(head.back() == '>');
    if (right.back()) head.pop_back();
    widths.push_back(head.size());
  }
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - cells[i].size(), ' ');
      absl::StrAppend(&text, i == 0 ? "" : "  ", right[i] ? padding : "", cells[i],
                      right[i] ? "" : padding);
    }
    return text.substr(0, text.find_last_not_of(' ') + 1);
  };
  std::string table = absl::StrCat(Styled(line(heads), kBold, color), "\n");
  for (const auto& row : rows) absl::StrAppend(&table, line(row), "\n");
  return table;
}

std::string BytesOrUnknown(int64_t bytes) { return bytes > 0 ? FormatBytes(bytes) : "?"; }

std::string RateOrUnknown(double rate) { return rate > 0 ? FormatBandwidth(rate) : "?"; }

std::string HostTable(const Topology& topology, bool color) {
  Rows rows;
  for (const Host& host : topology.hosts) {
    std::vector<std::string> nodes;
    for (const NumaNode& node : host.numa_nodes) {
      nodes.push_back(absl::StrCat(node.id, ": ", FormatBytes(node.available_bytes), " of ",
                                   FormatBytes(node.memory_bytes),
                                   node.cpus.empty() ? "" : ", CPUs ", node.cpus));
    }
    rows.push_back({host.name, BytesOrUnknown(host.memory_bytes), FormatBytes(host.available_bytes),
                    absl::StrJoin(nodes, "; ")});
  }
  return Table({"host", "memory>", "free>", "NUMA nodes (free)"}, rows, color);
}

std::string Details(const DeviceInfo& device) {
  std::vector<std::string> parts;
  if (device.kind == DeviceKind::kCpu) {
    parts.push_back(absl::StrCat(device.cores, device.cores == 1 ? " core, " : " cores, ",
                                 device.threads, device.threads == 1 ? " thread" : " threads"));
    if (!device.isa.empty()) parts.push_back(absl::StrJoin(device.isa, " "));
  } else {
    if (!device.compute_capability.empty()) parts.push_back("sm " + device.compute_capability);
    if (device.pcie_generation > 0) {
      parts.push_back(absl::StrCat("PCIe ", device.pcie_generation, "x", device.pcie_width));
    }
    if (device.numa_node >= 0) parts.push_back(absl::StrCat("NUMA ", device.numa_node));
    if (!device.pci_bus_id.empty()) parts.push_back(device.pci_bus_id);
  }
  return absl::StrJoin(parts, ", ");
}

std::string DeviceTable(const Topology& topology, bool color) {
  Rows rows;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    const char* origin = device.bandwidth_measured                  ? "measured"
                         : device.memory_bandwidth_bytes_per_s <= 0 ? ""
                         : device.kind == DeviceKind::kCpu          ? "estimated"
                                                                    : "nominal";
    rows.push_back({QualifiedDeviceId(topology, static_cast<int>(i)), device.name,
                    BytesOrUnknown(device.memory_bytes), FormatBytes(device.available_bytes),
                    RateOrUnknown(device.memory_bandwidth_bytes_per_s), origin, Details(device)});
  }
  return Table({"device", "name", "memory>", "free>", "bandwidth>", "", "details"}, rows, color);
}

// "0-3,6" of {0, 1, 2, 3, 6}.
std::string Ranges(const std::vector<int>& sorted) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < sorted.size();) {
    size_t j = i;
    while (j + 1 < sorted.size() && sorted[j + 1] == sorted[j] + 1) ++j;
    parts.push_back(i == j ? absl::StrCat(sorted[i]) : absl::StrCat(sorted[i], "-", sorted[j]));
    i = j + 1;
  }
  return absl::StrJoin(parts, ",");
}

// "cuda:1-7" or "n0/cuda:0-1, n1/cpu" of device indices. Ids of one host's GPUs run up with the
// index, so that a range reads well.
std::string LinkEnds(const Topology& topology, const std::vector<int>& ends) {
  std::map<int, std::vector<int>> by_host;
  for (int end : ends) by_host[topology.devices[end].host].push_back(end);
  std::vector<std::string> names;
  for (auto& [host, devices] : by_host) {
    std::sort(devices.begin(), devices.end());
    const std::string first = QualifiedDeviceId(topology, devices[0]);
    const size_t colon = first.rfind(':');
    if (devices.size() == 1 || colon == std::string::npos) {
      for (int device : devices) names.push_back(QualifiedDeviceId(topology, device));
      continue;
    }
    const int offset = devices[0] - std::atoi(first.c_str() + colon + 1);
    for (int& device : devices) device -= offset;
    names.push_back(absl::StrCat(first.substr(0, colon + 1), Ranges(devices)));
  }
  if (names.size() > 4) {
    const std::string more = absl::StrCat("... ", names.size() - 3, " more");
    names.resize(3);
    names.push_back(more);
  }
  return absl::StrJoin(names, ", ");
}

// Links with the same first device and the same figures share a row: "cuda:0  cuda:1-7".
std::string LinkTable(const Topology& topology, bool color) {
  using Key = std::tuple<int, LinkKind, double, double>;
  std::vector<std::pair<Key, std::vector<int>>> groups;
  std::map<Key, size_t> places;
  for (const Link& link : topology.links) {
    const Key key = {link.a, link.kind, link.bandwidth_bytes_per_s, link.latency_s};
    const auto [place, is_new] = places.emplace(key, groups.size());
    if (is_new) groups.push_back({key, {}});
    groups[place->second].second.push_back(link.b);
  }
  constexpr size_t kShown = 200;
  std::string tail;
  if (groups.size() > kShown) {
    tail = absl::StrCat("... ", groups.size() - kShown, " more rows; --format=json has them all\n");
    groups.resize(kShown);
  }
  Rows rows;
  for (const auto& [key, ends] : groups) {
    const auto& [a, kind, bandwidth, latency] = key;
    rows.push_back({QualifiedDeviceId(topology, a), LinkEnds(topology, ends),
                    std::string(LinkKindName(kind)), RateOrUnknown(bandwidth),
                    latency > 0 ? FormatDuration(latency) : ""});
  }
  return Table({"link", "with", "kind", "per direction>", "latency>"}, rows, color) + tail;
}

}  // namespace

std::string TopologyText(const Topology& topology, bool color) {
  std::string text = absl::StrCat(Styled(topology.source, kBold, color), "\n\n",
                                  HostTable(topology, color), "\n", DeviceTable(topology, color));
  if (!topology.links.empty()) absl::StrAppend(&text, "\n", LinkTable(topology, color));
  if (!topology.notes.empty()) absl::StrAppend(&text, "\n");
  for (const std::string& note : topology.notes) {
    absl::StrAppend(&text, Styled(absl::StrCat("note: ", note), kDim, color), "\n");
  }
  return text;
}

}  // namespace tprun
