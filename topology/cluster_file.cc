#include "topology/cluster_file.h"

#include <algorithm>
#include <exception>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cluster_host.h"
#include "topology/derive_links.h"
#include "topology/yaml_map.h"

namespace tprun {
namespace {

constexpr size_t kMaxHosts = 1024;
constexpr size_t kMaxDevices = 4096;
constexpr size_t kMaxLinks = 1000000;

// Reads one file into a Topology: hosts first, then the devices in the order Topology wants, then
// the links, which name devices.
class ClusterReader {
 public:
  ClusterReader(std::string path, const GpuCatalogue& catalogue)
      : path_(std::move(path)), catalogue_(catalogue) {}

  absl::StatusOr<Topology> Read(const YAML::Node& root) {
    ASSIGN_OR_RETURN(const YamlMap map, YamlMap::Open(path_, root, "cluster",
                                                      {"description", "hosts", "network", "links",
                                                       "derive_links", "notes"}));
    ASSIGN_OR_RETURN(const std::string description, map.StringOr("description", ""));
    topology_.source = BaseName(path_);
    if (!description.empty()) absl::StrAppend(&topology_.source, " (", description, ")");
    RETURN_IF_ERROR(ReadNotes(map));
    RETURN_IF_ERROR(ReadHosts(map));
    AddDevices();
    RETURN_IF_ERROR(AddNvlinks());
    RETURN_IF_ERROR(ReadLinks(map));
    RETURN_IF_ERROR(DeriveLinks(map));
    return std::move(topology_);
  }

 private:
  absl::Status ReadNotes(const YamlMap& map) {
    if (!map.Has("notes")) return absl::OkStatus();
    ASSIGN_OR_RETURN(const auto notes, YamlList(path_, map.Get("notes"), "notes", 1000));
    for (const YAML::Node& note : notes) {
      if (!note.IsScalar()) return YamlError(path_, note, "notes: wanted texts");
      topology_.notes.push_back(note.Scalar());
    }
    return absl::OkStatus();
  }

  absl::Status ReadHosts(const YamlMap& map) {
    if (!map.Has("hosts")) return map.Error("hosts", "wanted a list of hosts, found nothing");
    ASSIGN_OR_RETURN(const auto nodes, YamlList(path_, map.Get("hosts"), "hosts", kMaxHosts));
    if (nodes.empty()) return map.Error("hosts", "wanted at least one host");
    std::set<std::string> names;
    size_t devices = 0;
    for (const YAML::Node& node : nodes) {
      ASSIGN_OR_RETURN(const ClusterHost host,
                       ReadClusterHost(path_, node, catalogue_, topology_.notes));
      devices += host.count * (1 + host.gpus.size());
      if (hosts_.size() + host.count > kMaxHosts || devices > kMaxDevices) {
        return YamlError(path_, node,
                         absl::StrCat("hosts: wanted at most ", kMaxHosts, " hosts and ",
                                      kMaxDevices, " devices"));
      }
      for (int i = 0; i < host.count; ++i) {
        ClusterHost copy = host;
        if (copy.host.name.empty())
          copy.host.name = nodes.size() * host.count > 1 ? "node" : "host";
        const bool numbered = host.count > 1 || (host.host.name.empty() && nodes.size() > 1);
        if (numbered) absl::StrAppend(&copy.host.name, host.count > 1 ? i : hosts_.size());
        if (!names.insert(copy.host.name).second) {
          return YamlError(path_, node,
                           absl::StrCat("hosts: the name \"", copy.host.name, "\" is there twice"));
        }
        hosts_.push_back(std::move(copy));
      }
    }
    return absl::OkStatus();
  }

  void AddDevices() {
    for (size_t i = 0; i < hosts_.size(); ++i) {
      topology_.hosts.push_back(hosts_[i].host);
      hosts_[i].cpu.host = static_cast<int>(i);
      topology_.devices.push_back(hosts_[i].cpu);
    }
    for (size_t i = 0; i < hosts_.size(); ++i) {
      first_gpu_.push_back(static_cast<int>(topology_.devices.size()));
      for (DeviceInfo& gpu : hosts_[i].gpus) {
        gpu.host = static_cast<int>(i);
        topology_.devices.push_back(gpu);
      }
    }
  }

  absl::Status AddNvlinks() {
    for (size_t i = 0; i < hosts_.size(); ++i) {
      for (Link link : hosts_[i].nvlinks) {
        link.a += first_gpu_[i];
        link.b += first_gpu_[i];
        topology_.links.push_back(link);
      }
    }
    return absl::OkStatus();
  }

  // FindDevice looks at every device; a file may have very many links.
  absl::StatusOr<int> DeviceOf(const YamlMap& link, absl::string_view key) {
    ASSIGN_OR_RETURN(const std::string id, link.String(key));
    const auto known = ids_.find(id);
    if (known != ids_.end()) return known->second;
    const absl::StatusOr<int> device = FindDevice(topology_, id);
    if (!device.ok()) return link.Error(key, device.status().message());
    ids_[id] = *device;
    return *device;
  }

  absl::Status ReadLinks(const YamlMap& map) {
    if (!map.Has("links")) return absl::OkStatus();
    ASSIGN_OR_RETURN(const auto nodes, YamlList(path_, map.Get("links"), "links", kMaxLinks));
    for (const YAML::Node& node : nodes) {
      ASSIGN_OR_RETURN(
          const YamlMap map,
          YamlMap::Open(path_, node, "link", {"a", "b", "kind", "bandwidth", "latency"}));
      Link link;
      ASSIGN_OR_RETURN(link.a, DeviceOf(map, "a"));
      ASSIGN_OR_RETURN(link.b, DeviceOf(map, "b"));
      if (link.a == link.b) return map.Error("b", "wanted another device than \"a\"");
      ASSIGN_OR_RETURN(const std::string kind, map.String("kind"));
      const absl::StatusOr<LinkKind> parsed = ParseLinkKind(kind);
      if (!parsed.ok()) return map.Error("kind", parsed.status().message());
      link.kind = *parsed;
      ASSIGN_OR_RETURN(link.bandwidth_bytes_per_s, map.Bandwidth("bandwidth"));
      ASSIGN_OR_RETURN(link.latency_s, map.LatencyOr("latency", 0));
      topology_.links.push_back(link);
    }
    return absl::OkStatus();
  }

  bool HasNetworkLink() const {
    return std::any_of(topology_.links.begin(), topology_.links.end(),
                       [](const Link& link) { return link.kind == LinkKind::kNetwork; });
  }

  absl::Status DeriveLinks(const YamlMap& map) {
    ASSIGN_OR_RETURN(const bool derive, map.BoolOr("derive_links", true));
    if (derive) AddHostLinks(topology_);
    if (!map.Has("network")) {
      if (derive && hosts_.size() > 1 && !HasNetworkLink()) {
        return map.Error("network", absl::StrCat("there are ", hosts_.size(),
                                                 " hosts; wanted what joins them, such as "
                                                 "{bandwidth: 100Gbit/s, latency: 5us}"));
      }
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const YamlMap network,
                     YamlMap::Open(path_, map.Get("network"), "network", {"bandwidth", "latency"}));
    ASSIGN_OR_RETURN(const double bandwidth, network.Bandwidth("bandwidth"));
    ASSIGN_OR_RETURN(const double latency, network.LatencyOr("latency", 0));
    AddNetworkLinks(topology_, bandwidth, latency);
    return absl::OkStatus();
  }

  std::string path_;
  const GpuCatalogue& catalogue_;
  std::vector<ClusterHost> hosts_;
  std::vector<int> first_gpu_;  // of each host, in topology_.devices
  std::map<std::string, int> ids_;
  Topology topology_;
};

}  // namespace

absl::StatusOr<Topology> ParseClusterFile(const std::string& text, const std::string& path,
                                          const GpuCatalogue& catalogue) {
  ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(text, path));
  try {
    return ClusterReader(path, catalogue).Read(root);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
}

absl::StatusOr<Topology> ReadClusterFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 64 * kMiB));
  const absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
  // A file that carries all its numbers needs no catalogue; one that does not gets an error about
  // the GPU, so only a broken catalogue stops here.
  if (!catalogue.ok() && catalogue.status().code() != absl::StatusCode::kNotFound) {
    return catalogue.status();
  }
  return ParseClusterFile(text, path, catalogue.ok() ? *catalogue : GpuCatalogue());
}

}  // namespace tprun
