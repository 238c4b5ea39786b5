#include "topology/topology.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr std::array<std::pair<LinkKind, absl::string_view>, 9> kLinkKinds = {{
    {LinkKind::kNvlink, "nvlink"},
    {LinkKind::kC2c, "c2c"},
    {LinkKind::kPix, "pix"},
    {LinkKind::kPxb, "pxb"},
    {LinkKind::kPhb, "phb"},
    {LinkKind::kNode, "node"},
    {LinkKind::kPcie, "pcie"},
    {LinkKind::kSystem, "system"},
    {LinkKind::kNetwork, "network"},
}};

// All ids, shortened where there are very many.
std::string DeviceIds(const Topology& topology) {
  constexpr int kShown = 24;
  std::vector<std::string> ids;
  const int count = static_cast<int>(topology.devices.size());
  for (int i = 0; i < std::min(count, kShown); ++i) ids.push_back(QualifiedDeviceId(topology, i));
  if (count > kShown) ids.push_back(absl::StrCat("... (", count, " in all)"));
  return ids.empty() ? "none" : absl::StrJoin(ids, ", ");
}

// The CPU device of a host, -1 if it has none.
int CpuOf(const Topology& topology, int host) {
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.kind == DeviceKind::kCpu && device.host == host) return static_cast<int>(i);
  }
  return -1;
}

const Link* DirectLink(const Topology& topology, int a, int b) {
  const Link* best = nullptr;
  for (const Link& link : topology.links) {
    const bool joins = (link.a == a && link.b == b) || (link.a == b && link.b == a);
    if (!joins) continue;
    if (best == nullptr || link.bandwidth_bytes_per_s > best->bandwidth_bytes_per_s) best = &link;
  }
  return best;
}

}  // namespace

std::string QualifiedDeviceId(const Topology& topology, int index) {
  const DeviceInfo& device = topology.devices[index];
  if (topology.hosts.size() < 2) return device.id;
  return absl::StrCat(topology.hosts[device.host].name, "/", device.id);
}

absl::StatusOr<int> FindDevice(const Topology& topology, absl::string_view id) {
  std::vector<int> matches;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    const std::string full = absl::StrCat(topology.hosts[device.host].name, "/", device.id);
    if (id == full) return static_cast<int>(i);
    if (id == device.id) matches.push_back(static_cast<int>(i));
  }
  if (matches.size() == 1) return matches[0];
  if (!matches.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("device \"", id, "\" is on ", matches.size(),
                                                   " hosts; name one, as in \"",
                                                   QualifiedDeviceId(topology, matches[0]), "\""));
  }
  return absl::NotFoundError(absl::StrCat("no device \"", id, "\" in ", topology.source,
                                          "; there are: ", DeviceIds(topology)));
}

absl::StatusOr<DeviceRef> LocateDevice(const Topology& topology, absl::string_view id) {
  ASSIGN_OR_RETURN(const int device, FindDevice(topology, id));
  return DeviceRef{.device = device};
}

std::string DeviceId(const Topology& topology, DeviceRef ref) {
  return QualifiedDeviceId(topology, ref.device);
}

double MemoryBandwidth(const DeviceInfo& device) {
  const double measured = device.measured.memory_bandwidth_bytes_per_s;
  return measured > 0 ? measured : device.memory_bandwidth_bytes_per_s;
}

absl::string_view LinkKindName(LinkKind kind) {
  for (const auto& [value, name] : kLinkKinds) {
    if (value == kind) return name;
  }
  return "unknown";
}

absl::StatusOr<LinkKind> ParseLinkKind(absl::string_view name) {
  for (const auto& [value, known] : kLinkKinds) {
    if (known == name) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "wanted a kind of link (nvlink, c2c, pix, pxb, phb, node, pcie, system or network), found \"",
      name, "\""));
}

Link LinkBetween(const Topology& topology, int a, int b) {
  if (const Link* direct = DirectLink(topology, a, b)) {
    Link link = *direct;
    link.a = a;
    link.b = b;
    return link;
  }
  const Link unknown = {.a = a, .b = b};
  const int cpu_a = CpuOf(topology, topology.devices[a].host);
  const int cpu_b = CpuOf(topology, topology.devices[b].host);
  if (a == b || cpu_a < 0 || cpu_b < 0) return unknown;
  const std::array<std::pair<int, int>, 3> hops = {{{a, cpu_a}, {cpu_a, cpu_b}, {cpu_b, b}}};
  Link path = unknown;
  bool first = true;
  for (const auto& [from, to] : hops) {
    if (from == to) continue;
    const Link* hop = DirectLink(topology, from, to);
    if (hop == nullptr) return unknown;
    path.latency_s += hop->latency_s;
    if (first || hop->bandwidth_bytes_per_s < path.bandwidth_bytes_per_s) {
      path.bandwidth_bytes_per_s = hop->bandwidth_bytes_per_s;
      path.kind = hop->kind;
    }
    first = false;
  }
  return path;
}

}  // namespace tprun
