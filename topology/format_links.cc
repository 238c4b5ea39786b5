#include "topology/format_links.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/paths.h"
#include "topology/pcie.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

constexpr int kMatrixGpus = 8;
constexpr size_t kMatrixHosts = 8;

std::string RateOrUnknown(double rate) { return rate > 0 ? FormatBandwidth(rate) : "?"; }

// "31.5" of 31.5e9: the unit stands above the matrix.
std::string ShortRate(double rate) {
  const std::string text = RateOrUnknown(rate);
  return text.substr(0, text.find(' '));
}

std::string KindText(const Link& link) {
  if (link.kind == LinkKind::kNvlink) {
    return link.count > 0 ? absl::StrCat("NV", link.count) : "NV";
  }
  if (link.kind == LinkKind::kSystem) return "SYS";
  return absl::AsciiStrToUpper(LinkKindName(link.kind));
}

absl::string_view StyleOfKind(LinkKind kind) {
  switch (kind) {
    case LinkKind::kNvlink:
    case LinkKind::kC2c:
      return kGreen;
    case LinkKind::kSystem:
    case LinkKind::kNetwork:
      return kRed;
    case LinkKind::kPix:
    case LinkKind::kPxb:
      return "";
    default:
      return kYellow;
  }
}

TextCell Cell(const PathFinder& finder, int a, int b) {
  if (a == b) return {"X", kDim};
  const Link* link = finder.Direct(a, b);
  if (link == nullptr) return {"-", kDim};
  const double measured = link->measured_bandwidth_bytes_per_s;
  const double rate = measured > 0 ? measured : link->bandwidth_bytes_per_s;
  const bool estimated = measured <= 0 && absl::StrContains(link->source, "estimate: as PCIe");
  std::string text = absl::StrCat(KindText(*link), estimated ? " ~" : " ", ShortRate(rate),
                                  measured > 0 ? "m" : "");
  if (link->peer_access == PeerAccess::kNo) text += "!";
  return {text, StyleOfKind(link->kind)};
}

// "cuda:1" inside one host needs no host's name.
std::string Matrix(const PathFinder& finder, const std::vector<int>& devices, bool color) {
  const Topology& topology = finder.topology();
  std::vector<std::string> heads = {"GB/s"};
  TextRows rows;
  for (int a : devices) {
    heads.push_back(topology.devices[a].id);
    std::vector<TextCell> row = {TextCell(topology.devices[a].id, kBold)};
    for (int b : devices) row.push_back(Cell(finder, a, b));
    rows.push_back(std::move(row));
  }
  return TextTable(std::move(heads), rows, color);
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
std::string LinkTable(const Topology& topology, const std::set<int>& hosts_done, bool color) {
  using Key = std::tuple<int, LinkKind, int, double, double>;
  std::vector<std::pair<Key, std::vector<int>>> groups;
  std::map<Key, size_t> places;
  for (const Link& link : topology.links) {
    const int host = topology.devices[link.a].host;
    if (host == topology.devices[link.b].host && hosts_done.count(host)) continue;
    const Key key = {link.a, link.kind, link.count, link.bandwidth_bytes_per_s, link.latency_s};
    const auto [place, is_new] = places.emplace(key, groups.size());
    if (is_new) groups.push_back({key, {}});
    groups[place->second].second.push_back(link.b);
  }
  if (groups.empty()) return "";
  constexpr size_t kShown = 60;
  std::string tail;
  if (groups.size() > kShown) {
    tail = absl::StrCat("... ", groups.size() - kShown, " more rows; --format=json has them all\n");
    groups.resize(kShown);
  }
  TextRows rows;
  for (const auto& [key, ends] : groups) {
    const auto& [a, kind, count, bandwidth, latency] = key;
    std::string name(LinkKindName(kind));
    if (count > 0) absl::StrAppend(&name, " x", count);
    rows.push_back({QualifiedDeviceId(topology, a), LinkEnds(topology, ends),
                    TextCell(name, StyleOfKind(kind)), RateOrUnknown(bandwidth),
                    latency > 0 ? FormatDuration(latency) : ""});
  }
  return TextTable({"link", "with", "kind", "per direction>", "latency>"}, rows, color) + tail;
}

std::string GroupName(const Topology& topology, const std::vector<DeviceRef>& group) {
  bool several = false;
  for (const DeviceRef& ref : group) {
    several = several || ref.instance != group[0].instance ||
              topology.devices[ref.device].host != topology.devices[group[0].device].host;
  }
  const size_t kShown = several ? 5 : 8;
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(kShown, group.size()); ++i) {
    const DeviceInfo& device = topology.devices[group[i].device];
    const std::string number = device.id.substr(device.id.find(':') + 1);
    const Host& host = topology.hosts[device.host];
    names.push_back(several ? absl::StrCat(HostName(host, group[i].instance), "/", number)
                            : number);
  }
  if (group.size() > kShown) names.push_back("...");
  return absl::StrJoin(names, " ");
}

// Nothing tells how the two are joined: no reason to call it a problem.
bool IsUnknown(const Path& path) {
  return path.kind == LinkKind::kPcie && path.peer_access == PeerAccess::kUnknown;
}

std::string WhereText(const Topology& topology, const Nic& nic) {
  std::vector<std::string> near;
  for (const auto& [gpu, kind] : nic.gpu_paths) {
    if (kind == LinkKind::kPix || kind == LinkKind::kPxb) near.push_back(topology.devices[gpu].id);
  }
  std::vector<std::string> where;
  if (topology.hosts.size() > 1) where.push_back("on " + topology.hosts[nic.host].name);
  if (nic.numa_node >= 0) where.push_back(absl::StrCat("NUMA ", nic.numa_node));
  if (!near.empty()) where.push_back("near " + absl::StrJoin(near, " "));
  if (!nic.pci_bus_id.empty()) where.push_back(nic.pci_bus_id);
  return absl::StrJoin(where, ", ");
}

}  // namespace

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

std::string LinksText(const Topology& topology, bool color) {
  if (topology.links.empty()) return "";
  const PathFinder finder(topology);
  std::vector<std::vector<int>> devices(topology.hosts.size());
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    devices[topology.devices[i].host].push_back(static_cast<int>(i));
  }
  std::string text;
  std::set<int> done;
  for (size_t host = 0; host < devices.size() && done.size() < kMatrixHosts; ++host) {
    const int index = static_cast<int>(host);
    if (devices[host].size() < 2 || finder.gpus_of_host(index) > kMatrixGpus) continue;
    if (topology.hosts.size() > 1) {
      absl::StrAppend(&text, text.empty() ? "" : "\n", topology.hosts[host].name, "\n");
    }
    absl::StrAppend(&text, Matrix(finder, devices[host], color));
    done.insert(index);
  }
  const std::string table = LinkTable(topology, done, color);
  if (!text.empty() && !table.empty()) text += "\n";
  return text + table;
}

std::string NetworkText(const Topology& topology, bool color) {
  TextRows rows;
  constexpr size_t kShown = 40;
  for (size_t i = 0; i < topology.nics.size() && rows.size() < kShown; ++i) {
    const Nic& nic = topology.nics[i];
    const std::string where = WhereText(topology, nic);
    size_t last = i;  // of those that are alike
    while (last + 1 < topology.nics.size() &&
           WhereText(topology, topology.nics[last + 1]) == where &&
           topology.nics[last + 1].bandwidth_bytes_per_s == nic.bandwidth_bytes_per_s) {
      ++last;
    }
    const std::string rate = RateOrUnknown(nic.bandwidth_bytes_per_s);
    const size_t count = last - i + 1;
    rows.push_back(
        {count == 1 ? nic.name : absl::StrCat(nic.name, " ... ", topology.nics[last].name),
         count == 1 ? rate : absl::StrCat(count, " x ", rate), "", where});
    i = last;
  }
  for (const Fabric& fabric : topology.fabrics) {
    int64_t hosts = 0;
    for (int host : fabric.hosts) hosts += topology.hosts[host].count;
    std::string details = absl::StrCat(fabric.kind == LinkKind::kNvlink ? "NVLink switches, " : "",
                                       "joins ", hosts, hosts == 1 ? " host" : " hosts");
    if (fabric.nics_per_host > 1) {
      absl::StrAppend(&details, ", ", fabric.nics_per_host, " ports of ",
                      RateOrUnknown(fabric.bandwidth_bytes_per_s / fabric.nics_per_host));
    }
    if (fabric.oversubscription > 1) {
      absl::StrAppendFormat(&details, ", oversubscribed %.3g:1", fabric.oversubscription);
    }
    rows.push_back({fabric.name, RateOrUnknown(fabric.bandwidth_bytes_per_s),
                    fabric.latency_s > 0 ? FormatDuration(fabric.latency_s) : "", details});
  }
  if (rows.empty()) return "";
  return TextTable({"network", "per host>", "latency>", ""}, rows, color);
}

std::string ExchangeText(const Topology& topology, bool color) {
  std::vector<std::pair<std::string, std::vector<DeviceRef>>> groups;
  std::vector<std::vector<DeviceRef>> of_host(topology.hosts.size());
  std::vector<DeviceRef> all;
  constexpr size_t kMost = 4096;
  for (const DeviceRef& ref : AllDeviceRefs(topology, 1 << 17)) {
    const DeviceInfo& device = topology.devices[ref.device];
    if (device.kind != DeviceKind::kGpu) continue;
    if (ref.instance == 0) of_host[device.host].push_back(ref);
    all.push_back(ref);
  }
  std::set<std::vector<int>> seen;
  const auto add = [&](absl::string_view what, const std::vector<DeviceRef>& group) {
    std::vector<int> key;
    for (const DeviceRef& ref : group) key.push_back(ref.device * 20000 + ref.instance);
    if (group.size() < 2 || !seen.insert(key).second) return;
    groups.emplace_back(std::string(what), BestRing(topology, group));
  };
  constexpr size_t kShown = 6;
  for (const auto& island : NvlinkIslands(topology)) {
    if (groups.size() < kShown) add("NVLink island", island);
  }
  for (size_t host = 0; host < of_host.size(); ++host) {
    if (groups.size() >= 2 * kShown) break;
    add(topology.hosts.size() > 1 ? topology.hosts[host].name : "all GPUs", of_host[host]);
  }
  if (all.size() <= kMost) add("all hosts", all);
  TextRows rows;
  for (const auto& [what, group] : groups) {
    const ExchangeCost little = AllReduceCost(topology, group, 16 << 10);
    const ExchangeCost much = AllReduceCost(topology, group, 32 << 20);
    if (!std::isfinite(little.seconds)) continue;
    rows.push_back({what, absl::StrCat(group.size()), GroupName(topology, group),
                    FormatDuration(little.seconds), FormatDuration(much.seconds),
                    RateOrUnknown(much.bottleneck_bytes_per_s), much.algorithm});
  }
  if (rows.empty()) return "";
  return TextTable(
      {"all-reduce among", "GPUs>", "ring order", "16 KiB>", "32 MiB>", "rate>", "32 MiB by"}, rows,
      color);
}

std::string ProblemsText(const Topology& topology, bool color) {
  constexpr size_t kShown = 24;
  std::vector<std::string> lines;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    const std::string id = QualifiedDeviceId(topology, static_cast<int>(i));
    if (device.pcie_width > 0 && device.pcie_width < device.pcie_max_width) {
      lines.push_back(absl::StrCat(
          id, " runs on ", device.pcie_width, " of its ", device.pcie_max_width, " PCIe lanes: ",
          RateOrUnknown(PcieBandwidth(device.pcie_generation, device.pcie_width))));
    }
    int64_t held = 0;
    for (const DeviceProcess& process : device.processes) held += process.memory_bytes;
    if (held > 0) {
      const size_t count = device.processes.size();
      lines.push_back(absl::StrCat(id, ": ", count,
                                   count == 1 ? " process holds " : " processes hold ",
                                   FormatBytes(held), " of its memory"));
    }
  }
  // One line for each reason, however many pairs share it.
  std::map<std::string, std::pair<std::string, int>> reasons;
  const PathFinder finder(topology);
  for (const Link& link : topology.links) {
    const bool gpus = topology.devices[link.a].kind == DeviceKind::kGpu &&
                      topology.devices[link.b].kind == DeviceKind::kGpu;
    if (!gpus || topology.devices[link.a].host != topology.devices[link.b].host) continue;
    const Path path = finder.Between({.device = link.a}, {.device = link.b});
    if (!path.through_host || IsUnknown(path)) continue;
    auto& [pair, count] = reasons[path.why];
    if (count++ == 0) {
      pair = absl::StrCat(QualifiedDeviceId(topology, link.a), " and ",
                          QualifiedDeviceId(topology, link.b));
    }
  }
  for (const auto& [why, pairs] : reasons) {
    std::string more;
    if (pairs.second > 1) {
      more = absl::StrCat(" (and ", pairs.second - 1, " more pair", pairs.second > 2 ? "s)" : ")");
    }
    lines.push_back(absl::StrCat("no peer access between ", pairs.first, more, ": ", why));
  }
  std::string text;
  for (size_t i = 0; i < std::min(kShown, lines.size()); ++i) {
    absl::StrAppend(&text, Styled("problem: ", kYellow, color), lines[i], "\n");
  }
  if (lines.size() > kShown) absl::StrAppend(&text, "... ", lines.size() - kShown, " more\n");
  return text;
}

}  // namespace tprun
