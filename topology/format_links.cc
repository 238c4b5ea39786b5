#include "topology/format_links.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/cpu_list.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

constexpr int kMatrixGpus = 8;
constexpr size_t kMatrixHosts = 8;

// "31.5" of 31.5e9: the unit stands above the matrix.
std::string ShortRate(double rate) {
  const std::string text = RateOrUnknown(rate);
  return text.substr(0, text.find(' '));
}

// `kind`: of the way, where the link itself may carry nothing.
std::string KindText(const Link& link, LinkKind kind) {
  if (kind == LinkKind::kNvlink) {
    return link.count > 0 ? absl::StrCat("NV", link.count) : "NV";
  }
  if (kind == LinkKind::kSystem) return "SYS";
  return absl::AsciiStrToUpper(LinkKindName(kind));
}
std::string KindText(const Link& link) { return KindText(link, link.kind); }

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

// The marks that a matrix uses, explained below it.
struct Marks {
  bool measured = false, estimated = false, no_peer_access = false;
};

// What the whole way carries, measured or nominal.
TextCell Cell(const PathFinder& finder, int a, int b, Marks& marks) {
  if (a == b) return {"X", kDim};
  const Link* link = finder.Direct(a, b);
  if (link == nullptr) return {"-", kDim};
  const double measured = link->measured_bandwidth_bytes_per_s;
  const Path path = finder.Between({.device = a}, {.device = b});
  const bool is_broken = link->kind == LinkKind::kNvlink && link->peer_access == PeerAccess::kNo;
  const LinkKind kind = is_broken ? path.kind : link->kind;
  const bool estimated = measured <= 0 && absl::StrContains(link->source, "estimate: as ");
  std::string text =
      absl::StrCat(KindText(*link, kind), estimated ? " ~" : " ",
                   ShortRate(measured > 0 && !is_broken ? measured : path.bandwidth_bytes_per_s));
  if (measured > 0) text += "m";
  if (link->peer_access == PeerAccess::kNo) text += "!";
  marks.measured |= measured > 0;
  marks.estimated |= estimated;
  marks.no_peer_access |= link->peer_access == PeerAccess::kNo;
  return {text, StyleOfKind(kind)};
}

// "cuda:1" inside one host needs no host's name.
std::string Matrix(const TextView& view, const std::vector<int>& devices, Marks& marks) {
  std::vector<std::string> heads = {"GB/s"};
  TextRows rows;
  for (int a : devices) {
    const std::string& id = view.topology.devices[a].id;
    heads.push_back(id);
    std::vector<TextCell> row = {TextCell(id, kBold)};
    for (int b : devices) row.push_back(Cell(view.finder, a, b, marks));
    rows.push_back(std::move(row));
  }
  return TextTable(std::move(heads), rows, view.color);
}

std::string Explain(const Marks& marks, bool color) {
  std::vector<std::string> parts;
  if (marks.measured) parts.push_back("m: measured");
  if (marks.estimated) parts.push_back("~: estimated, as the card or its slot is not known");
  if (marks.no_peer_access) parts.push_back("!: no peer access");
  if (parts.empty()) return "";
  return Styled(absl::StrJoin(parts, "; "), kDim, color) + "\n";
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
    names.push_back(absl::StrCat(first.substr(0, colon + 1), FormatCpuList(devices)));
  }
  if (names.size() > 4) {
    const std::string more = absl::StrCat("... ", names.size() - 3, " more");
    names.resize(3);
    names.push_back(more);
  }
  return absl::StrJoin(names, ", ");
}

// Links with the same first device and the same figures share a row: "cuda:0  cuda:1-7".
std::string LinkTable(const TextView& view, const std::set<int>& hosts_done) {
  const Topology& topology = view.topology;
  using Key = std::tuple<int, LinkKind, int, double, double>;
  std::vector<std::pair<Key, std::vector<int>>> groups;
  std::map<Key, size_t> places;
  for (const Link& link : topology.links) {
    const int host = topology.devices[link.a].host;
    const bool inside = host == topology.devices[link.b].host;
    if (inside && (hosts_done.count(host) || !view.IsShown(host))) continue;
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
  return TextTable({"link", "with", "kind", "per direction>", "latency>"}, rows, view.color) + tail;
}

}  // namespace

std::string LinksText(const TextView& view) {
  if (view.topology.links.empty()) return "";
  std::string text;
  std::set<int> done;
  Marks marks;
  for (size_t i = 0; i < view.devices.size() && done.size() < kMatrixHosts; ++i) {
    const int host = static_cast<int>(i);
    if (!view.IsShown(host)) continue;
    if (view.devices[i].size() < 2 || view.finder.gpus_of_host(host) > kMatrixGpus) continue;
    if (view.topology.hosts.size() > 1) {
      absl::StrAppend(&text, text.empty() ? "" : "\n", view.HostLabel(host), "\n");
    }
    absl::StrAppend(&text, Matrix(view, view.devices[i], marks));
    done.insert(host);
  }
  absl::StrAppend(&text, Explain(marks, view.color));
  const std::string table = LinkTable(view, done);
  if (!text.empty() && !table.empty()) text += "\n";
  return text + table;
}

}  // namespace tprun
