#include "topology/cluster_links.h"

#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr size_t kMaxLinks = 1000000;
constexpr size_t kMaxFabrics = 64;

// Finds devices by id; a file may have very many links.
class DeviceNames {
 public:
  explicit DeviceNames(const Topology& topology) : topology_(topology) {
    for (size_t i = 0; i < topology.devices.size(); ++i) {
      const DeviceInfo& device = topology.devices[i];
      const Host& host = topology.hosts[device.host];
      ids_.emplace(absl::StrCat(host.name, "/", device.id), static_cast<int>(i));
    }
  }

  absl::StatusOr<int> Find(const YamlMap& link, absl::string_view key) {
    ASSIGN_OR_RETURN(const std::string id, link.String(key));
    const auto known = ids_.find(id);
    if (known != ids_.end()) return known->second;
    const absl::StatusOr<DeviceRef> device = LocateDevice(topology_, id);
    if (!device.ok()) return link.Error(key, device.status().message());
    ids_[id] = device->device;
    return device->device;
  }

 private:
  const Topology& topology_;
  std::map<std::string, int> ids_;
};

absl::Status ReadPeerAccess(const YamlMap& map, Link& link) {
  ASSIGN_OR_RETURN(const std::string access, map.StringOr("p2p", "unknown"));
  if (access == "yes" || access == "true") {
    link.peer_access = PeerAccess::kYes;
  } else if (access == "no" || access == "false") {
    link.peer_access = PeerAccess::kNo;
  } else if (access != "unknown") {
    return map.Error("p2p", absl::StrCat("wanted yes, no or unknown, found \"", access, "\""));
  }
  ASSIGN_OR_RETURN(link.peer_access_reason, map.StringOr("p2p_reason", ""));
  ASSIGN_OR_RETURN(link.peer_access_verified, map.BoolOr("p2p_verified", false));
  return absl::OkStatus();
}

absl::Status ReadFigures(const YamlMap& map, Link& link) {
  ASSIGN_OR_RETURN(const std::string kind, map.String("kind"));
  const absl::StatusOr<LinkKind> parsed = ParseLinkKind(kind);
  if (!parsed.ok()) return map.Error("kind", parsed.status().message());
  link.kind = *parsed;
  ASSIGN_OR_RETURN(link.bandwidth_bytes_per_s, map.Bandwidth("bandwidth"));
  ASSIGN_OR_RETURN(link.latency_s, map.LatencyOr("latency", 0));
  ASSIGN_OR_RETURN(link.count, map.IntOr("count", 0, 1024, 0));
  ASSIGN_OR_RETURN(link.via_switch, map.BoolOr("switch", false));
  RETURN_IF_ERROR(ReadPeerAccess(map, link));
  ASSIGN_OR_RETURN(link.measured_bandwidth_bytes_per_s, map.BandwidthOr("measured_bandwidth", 0));
  ASSIGN_OR_RETURN(link.measured_latency_s, map.LatencyOr("measured_latency", 0));
  ASSIGN_OR_RETURN(link.source, map.StringOr("source", ""));
  return absl::OkStatus();
}

// A link of hosts that are there several times is within each of them.
absl::Status CheckEnds(const YamlMap& map, const Topology& topology, const Link& link) {
  if (link.a == link.b) return map.Error("b", "wanted another device than \"a\"");
  const int a = topology.devices[link.a].host;
  const int b = topology.devices[link.b].host;
  if (a == b || (topology.hosts[a].count == 1 && topology.hosts[b].count == 1)) {
    return absl::OkStatus();
  }
  return map.Error("b", "wanted a device of the same host: there are several hosts of this name");
}

absl::StatusOr<std::vector<int>> FabricHosts(const YamlMap& map, const Topology& topology) {
  std::vector<int> hosts(topology.hosts.size());
  std::iota(hosts.begin(), hosts.end(), 0);
  if (!map.Has("hosts")) return hosts;
  std::map<std::string, int> places;
  for (int host : hosts) places[topology.hosts[host].name] = host;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, map.Texts("hosts", hosts.size()));
  hosts.clear();
  std::set<std::string> seen;
  for (const std::string& name : names) {
    const auto place = places.find(name);
    if (place == places.end()) {
      return map.Error("hosts", absl::StrCat("there is no host \"", name, "\""));
    }
    if (!seen.insert(name).second) {
      return map.Error("hosts", absl::StrCat("\"", name, "\" is there twice"));
    }
    hosts.push_back(place->second);
  }
  return hosts;
}

absl::StatusOr<Fabric> ReadFabric(const YamlMap& map, const Topology& topology,
                                  const std::string& default_name) {
  Fabric fabric;
  ASSIGN_OR_RETURN(fabric.name, map.StringOr("name", default_name));
  ASSIGN_OR_RETURN(const std::string kind, map.StringOr("kind", "network"));
  if (kind != "network" && kind != "nvlink") {
    return map.Error("kind", absl::StrCat("wanted network or nvlink, found \"", kind, "\""));
  }
  fabric.kind = kind == "nvlink" ? LinkKind::kNvlink : LinkKind::kNetwork;
  ASSIGN_OR_RETURN(fabric.nics_per_host, map.IntOr("nics", 1, 1024, 1));
  if (map.Has("nic_bandwidth") && map.Has("bandwidth")) {
    return map.Error("bandwidth", "is nic_bandwidth times nics; give one of the two");
  }
  if (map.Has("nic_bandwidth")) {
    ASSIGN_OR_RETURN(const double one, map.Bandwidth("nic_bandwidth"));
    fabric.bandwidth_bytes_per_s = one * fabric.nics_per_host;
  } else {
    ASSIGN_OR_RETURN(fabric.bandwidth_bytes_per_s, map.Bandwidth("bandwidth"));
  }
  ASSIGN_OR_RETURN(fabric.latency_s, map.LatencyOr("latency", 0));
  ASSIGN_OR_RETURN(fabric.oversubscription, map.NumberOr("oversubscription", 1, 1000, 1));
  ASSIGN_OR_RETURN(fabric.hosts, FabricHosts(map, topology));
  return fabric;
}

}  // namespace

std::set<std::string> HostsOfLinks(const YamlMap& cluster) {
  std::set<std::string> hosts;
  const YAML::Node links = cluster.Get("links");
  if (!links.IsDefined() || !links.IsSequence()) return hosts;
  for (const YAML::Node& link : links) {
    if (!link.IsMap()) continue;
    for (const char* key : {"a", "b"}) {
      const YAML::Node id = link[key];
      if (!id.IsDefined() || !id.IsScalar()) continue;
      const size_t slash = id.Scalar().rfind('/');
      if (slash != std::string::npos) hosts.insert(id.Scalar().substr(0, slash));
    }
  }
  return hosts;
}

absl::Status ReadClusterLinks(const YamlMap& cluster, Topology& topology) {
  if (!cluster.Has("links")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto nodes,
                   YamlList(cluster.path(), cluster.Get("links"), "links", kMaxLinks));
  DeviceNames names(topology);
  topology.links.reserve(topology.links.size() + nodes.size());
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(const YamlMap map,
                     YamlMap::Open(cluster.path(), node, "link",
                                   {"a", "b", "kind", "bandwidth", "latency", "count", "switch",
                                    "p2p", "p2p_reason", "p2p_verified", "measured_bandwidth",
                                    "measured_latency", "source"}));
    Link link;
    ASSIGN_OR_RETURN(link.a, names.Find(map, "a"));
    ASSIGN_OR_RETURN(link.b, names.Find(map, "b"));
    RETURN_IF_ERROR(CheckEnds(map, topology, link));
    RETURN_IF_ERROR(ReadFigures(map, link));
    topology.links.push_back(std::move(link));
  }
  return absl::OkStatus();
}

absl::Status ReadClusterFabrics(const YamlMap& cluster, Topology& topology) {
  if (cluster.Has("network")) {
    ASSIGN_OR_RETURN(
        const YamlMap map,
        YamlMap::Open(cluster.path(), cluster.Get("network"), "network",
                      {"bandwidth", "latency", "nics", "nic_bandwidth", "oversubscription"}));
    ASSIGN_OR_RETURN(Fabric fabric, ReadFabric(map, topology, "network"));
    topology.fabrics.push_back(std::move(fabric));
  }
  if (!cluster.Has("fabrics")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto nodes,
                   YamlList(cluster.path(), cluster.Get("fabrics"), "fabrics", kMaxFabrics));
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(const YamlMap map,
                     YamlMap::Open(cluster.path(), node, "fabric",
                                   {"name", "kind", "bandwidth", "nics", "nic_bandwidth", "latency",
                                    "oversubscription", "hosts"}));
    ASSIGN_OR_RETURN(Fabric fabric,
                     ReadFabric(map, topology, absl::StrCat("fabric", topology.fabrics.size())));
    topology.fabrics.push_back(std::move(fabric));
  }
  return absl::OkStatus();
}

}  // namespace tprun
