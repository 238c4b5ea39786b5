// Exchanges to expect and problems, as parts of TopologyText.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/exchange_groups.h"
#include "topology/format_links.h"
#include "topology/pcie.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

using Group = std::vector<DeviceRef>;

std::string GroupName(const Topology& topology, const Group& group) {
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

// What a desktop takes is no problem.
constexpr int64_t kDisplay = 256 * kMiB;

// Narrow slots and memory that others hold.
void AddDeviceProblems(const TextView& view, std::vector<std::string>& lines) {
  for (size_t i = 0; i < view.topology.devices.size(); ++i) {
    const DeviceInfo& device = view.topology.devices[i];
    if (!view.IsShown(device.host)) continue;
    const std::string id = QualifiedDeviceId(view.topology, static_cast<int>(i));
    if (device.pcie_width > 0 && device.pcie_width < device.pcie_max_width) {
      lines.push_back(absl::StrCat(
          id, " runs on ", device.pcie_width, " of its ", device.pcie_max_width, " PCIe lanes: ",
          RateOrUnknown(PcieBandwidth(device.pcie_generation, device.pcie_width))));
    }
    int64_t held = 0;
    for (const DeviceProcess& process : device.processes) held += process.memory_bytes;
    if (held > kDisplay) {
      const size_t count = device.processes.size();
      lines.push_back(absl::StrCat(id, ": ", count,
                                   count == 1 ? " process holds " : " processes hold ",
                                   FormatBytes(held), " of its memory"));
    }
  }
}

// One line for each reason why there is no peer access, however many pairs share it.
void AddPeerProblems(const TextView& view, std::vector<std::string>& lines) {
  std::map<std::string, std::pair<std::string, int>> reasons;
  const Topology& topology = view.topology;
  for (const Link& link : topology.links) {
    const bool gpus = topology.devices[link.a].kind == DeviceKind::kGpu &&
                      topology.devices[link.b].kind == DeviceKind::kGpu;
    const int host = topology.devices[link.a].host;
    if (!gpus || host != topology.devices[link.b].host || !view.IsShown(host)) continue;
    const Path path = view.finder.Between({.device = link.a}, {.device = link.b});
    if (!path.through_host || IsUnknown(path)) continue;
    auto& [pair, count] = reasons[path.why];
    if (count == 0) {
      pair = absl::StrCat(QualifiedDeviceId(topology, link.a), " and ",
                          QualifiedDeviceId(topology, link.b));
    }
    count += view.count[host];
  }
  for (const auto& [why, pairs] : reasons) {
    std::string more;
    if (pairs.second > 1) {
      more = absl::StrCat(" (and ", pairs.second - 1, " more pair", pairs.second > 2 ? "s)" : ")");
    }
    lines.push_back(absl::StrCat("no peer access between ", pairs.first, more, ": ", why));
  }
}

}  // namespace

std::string ExchangeText(const TextView& view) {
  TextRows rows;
  for (const auto& [what, group] : ExchangeGroups(view)) {
    const ExchangeCost little = AllReduceCost(view.finder, group, 16 << 10);
    const ExchangeCost much = AllReduceCost(view.finder, group, 32 << 20);
    if (!std::isfinite(little.seconds)) continue;
    rows.push_back({what, absl::StrCat(group.size()), GroupName(view.topology, group),
                    FormatDuration(little.seconds), FormatDuration(much.seconds),
                    RateOrUnknown(much.bottleneck_bytes_per_s), much.algorithm});
  }
  if (rows.empty()) return "";
  return TextTable(
      {"all-reduce among", "GPUs>", "ring order", "16 KiB>", "32 MiB>", "rate>", "32 MiB by"}, rows,
      view.color);
}

std::string ProblemsText(const TextView& view) {
  constexpr size_t kShown = 24;
  std::vector<std::string> lines;
  AddDeviceProblems(view, lines);
  AddPeerProblems(view, lines);
  std::string text;
  for (size_t i = 0; i < std::min(kShown, lines.size()); ++i) {
    absl::StrAppend(&text, Styled("problem: ", kYellow, view.color), lines[i], "\n");
  }
  if (lines.size() > kShown) absl::StrAppend(&text, "... ", lines.size() - kShown, " more\n");
  return text;
}

}  // namespace tprun
