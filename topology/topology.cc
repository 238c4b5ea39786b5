#include "topology/topology.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

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

// Some ids, where there are very many.
std::string DeviceIds(const Topology& topology) {
  constexpr size_t kShown = 24;
  std::vector<std::string> ids;
  for (const DeviceRef& ref : AllDeviceRefs(topology, kShown)) {
    ids.push_back(DeviceId(topology, ref));
  }
  int64_t count = 0;
  for (const DeviceInfo& device : topology.devices) count += topology.hosts[device.host].count;
  if (count > static_cast<int64_t>(kShown)) {
    ids.push_back(absl::StrCat("... (", count, " in all)"));
  }
  return ids.empty() ? "none" : absl::StrJoin(ids, ", ");
}

// The host called `name` and which of its copies, {-1, 0} if there is none.
std::pair<int, int> FindHost(const Topology& topology, absl::string_view name) {
  for (size_t i = 0; i < topology.hosts.size(); ++i) {
    const Host& host = topology.hosts[i];
    if (host.count == 1 && name == host.name) return {static_cast<int>(i), 0};
    absl::string_view number = name;
    int instance = 0;
    if (host.count > 1 && absl::ConsumePrefix(&number, host.name) &&
        absl::SimpleAtoi(number, &instance) && instance >= 0 && instance < host.count &&
        number == absl::StrCat(instance)) {
      return {static_cast<int>(i), instance};
    }
  }
  return {-1, 0};
}

void AppendRefs(const Topology& topology, DeviceKind kind, size_t max,
                std::vector<DeviceRef>& refs) {
  std::vector<std::vector<int>> by_host(topology.hosts.size());
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.kind == kind) by_host[device.host].push_back(static_cast<int>(i));
  }
  for (size_t host = 0; host < by_host.size(); ++host) {
    for (int instance = 0; instance < topology.hosts[host].count; ++instance) {
      for (int device : by_host[host]) {
        if (refs.size() >= max) return;
        refs.push_back({.device = device, .instance = instance});
      }
      if (by_host[host].empty()) break;
    }
  }
}

// "; no NVIDIA driver, so no GPUs: ...", of a GPU where none was seen.
std::string WhyAbsent(const Topology& topology, absl::string_view name) {
  if (!absl::StartsWith(name, "cuda:")) return "";
  for (const std::string& note : topology.notes) {
    if (absl::StrContains(note, "no GPUs")) return absl::StrCat("; ", note);
  }
  return "";
}

}  // namespace

std::string HostName(const Host& host, int instance) {
  return host.count == 1 ? host.name : absl::StrCat(host.name, instance);
}

int64_t CountHosts(const Topology& topology) {
  int64_t count = 0;
  for (const Host& host : topology.hosts) count += host.count;
  return count;
}

std::vector<DeviceRef> AllDeviceRefs(const Topology& topology, size_t max) {
  std::vector<DeviceRef> refs;
  AppendRefs(topology, DeviceKind::kCpu, max, refs);
  AppendRefs(topology, DeviceKind::kGpu, max, refs);
  return refs;
}

std::string DeviceId(const Topology& topology, DeviceRef ref) {
  const DeviceInfo& device = topology.devices[ref.device];
  const bool one_host = topology.hosts.size() == 1 && topology.hosts[0].count == 1;
  if (one_host) return device.id;
  return absl::StrCat(HostName(topology.hosts[device.host], ref.instance), "/", device.id);
}

absl::StatusOr<DeviceRef> LocateDevice(const Topology& topology, absl::string_view id) {
  const size_t slash = id.rfind('/');
  const absl::string_view name = slash == absl::string_view::npos ? id : id.substr(slash + 1);
  std::pair<int, int> host = {-1, 0};
  if (slash != absl::string_view::npos) host = FindHost(topology, id.substr(0, slash));
  int64_t matches = 0;
  DeviceRef first;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.id != name) continue;
    const DeviceRef ref = {.device = static_cast<int>(i), .instance = host.second};
    if (slash != absl::string_view::npos) {
      if (device.host == host.first) return ref;
      continue;
    }
    if (matches == 0) first = ref;
    matches += topology.hosts[device.host].count;
  }
  if (matches == 1) return first;
  if (matches > 1) {
    return absl::InvalidArgumentError(absl::StrCat("device \"", id, "\" is on ", matches,
                                                   " hosts; name one, as in \"",
                                                   DeviceId(topology, first), "\""));
  }
  return absl::NotFoundError(absl::StrCat("no device \"", id, "\" in ", topology.source,
                                          "; there are: ", DeviceIds(topology),
                                          WhyAbsent(topology, name)));
}

std::string QualifiedDeviceId(const Topology& topology, int index) {
  return DeviceId(topology, {.device = index});
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

}  // namespace tprun
