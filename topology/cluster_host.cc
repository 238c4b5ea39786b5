#include "topology/cluster_host.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cluster_gpu.h"
#include "topology/detect_host.h"

namespace tprun {
namespace {

constexpr int kMaxEqualHosts = 10000;

absl::Status ReadNuma(const YamlMap& host, ClusterHost& out) {
  if (!host.Has("numa")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto nodes, YamlList(host.path(), host.Get("numa"), "numa", 1024));
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(
        const YamlMap map,
        YamlMap::Open(host.path(), node, "numa", {"id", "memory", "available", "cpus", "package"}));
    NumaNode numa;
    ASSIGN_OR_RETURN(const int64_t id, map.Int("id", 0, 65535));
    numa.id = static_cast<int>(id);
    ASSIGN_OR_RETURN(numa.memory_bytes, map.Bytes("memory"));
    ASSIGN_OR_RETURN(numa.available_bytes, map.BytesOr("available", numa.memory_bytes));
    ASSIGN_OR_RETURN(numa.cpus, map.StringOr("cpus", ""));
    if (map.Has("package")) {
      ASSIGN_OR_RETURN(const int64_t package, map.Int("package", 0, 65535));
      numa.package = static_cast<int>(package);
    }
    out.host.numa_nodes.push_back(std::move(numa));
  }
  return absl::OkStatus();
}

// A number, or "unknown".
absl::StatusOr<int> CountOrUnknown(const YamlMap& map, absl::string_view key) {
  ASSIGN_OR_RETURN(const std::string text, map.StringOr(key, ""));
  if (text == "unknown") return 0;
  ASSIGN_OR_RETURN(const int64_t count, map.Int(key, 1, 65536));
  return static_cast<int>(count);
}

absl::Status ReadCpuBandwidth(const YamlMap& map, const std::string& host_name, DeviceInfo& cpu,
                              std::vector<std::string>& notes) {
  ASSIGN_OR_RETURN(cpu.memory_bandwidth_bytes_per_s, map.BandwidthOr("bandwidth", -1));
  if (cpu.memory_bandwidth_bytes_per_s >= 0) return absl::OkStatus();
  cpu.memory_bandwidth_bytes_per_s = EstimateCpuBandwidth(cpu, 1);
  cpu.sources["memory_bandwidth_bytes_per_s"] = "estimate from its cores";
  notes.push_back(absl::StrCat(host_name.empty() ? "cpu" : host_name + "/cpu",
                               ": no bandwidth given, ",
                               FormatBandwidth(cpu.memory_bandwidth_bytes_per_s), " estimated"));
  return absl::OkStatus();
}

absl::Status ReadCpu(const YamlMap& host, ClusterHost& out, std::vector<std::string>& notes) {
  if (!host.Has("cpu")) {
    return host.Error("cpu", "wanted a mapping such as {cores: 16, memory: 64GiB}, found nothing");
  }
  if (host.Get("cpu").IsScalar() && host.Get("cpu").Scalar() == "unknown") return absl::OkStatus();
  ASSIGN_OR_RETURN(const YamlMap map,
                   YamlMap::Open(host.path(), host.Get("cpu"), "cpu",
                                 {"name", "cores", "threads", "memory", "available", "bandwidth",
                                  "measured", "isa", "numa_node", "cpus", "peak", "sources"}));
  DeviceInfo& cpu = out.cpu;
  cpu.id = "cpu";
  ASSIGN_OR_RETURN(cpu.name, map.StringOr("name", "CPU"));
  ASSIGN_OR_RETURN(cpu.cores, CountOrUnknown(map, "cores"));
  cpu.threads = cpu.cores;
  if (map.Has("threads")) {
    ASSIGN_OR_RETURN(cpu.threads, CountOrUnknown(map, "threads"));
  }
  ASSIGN_OR_RETURN(cpu.numa_node, map.IntOr("numa_node", -1, 65535, -1));
  ASSIGN_OR_RETURN(cpu.memory_bytes, map.Bytes("memory"));
  ASSIGN_OR_RETURN(cpu.available_bytes, map.BytesOr("available", cpu.memory_bytes));
  RETURN_IF_ERROR(CheckAvailable(map, cpu));
  ASSIGN_OR_RETURN(cpu.isa, map.Texts("isa", 100));
  ASSIGN_OR_RETURN(cpu.sources, map.TextMap("sources"));
  RETURN_IF_ERROR(ReadCpuBandwidth(map, out.host.name, cpu, notes));
  RETURN_IF_ERROR(ReadMeasured(map, cpu));
  ASSIGN_OR_RETURN(cpu.cpus, map.StringOr("cpus", ""));
  ASSIGN_OR_RETURN(cpu.peak_ops_per_s, map.OpsByType("peak"));
  out.host.memory_bytes = cpu.memory_bytes;
  out.host.available_bytes = cpu.available_bytes;
  return absl::OkStatus();
}

// "gpus" of an NVLink group: numbers within the host, or "all".
absl::StatusOr<std::vector<int>> ReadMembers(const YamlMap& group, const ClusterHost& host) {
  const YAML::Node node = group.Get("gpus");
  const int count = static_cast<int>(host.gpus.size());
  std::vector<int> members;
  if (node.IsDefined() && node.IsScalar() && node.Scalar() == "all") {
    for (int i = 0; i < count; ++i) members.push_back(i);
  } else if (node.IsDefined() && node.IsSequence()) {
    std::set<int> seen;
    for (const YAML::Node& member : node) {
      int index;
      const bool number = member.IsScalar() && absl::SimpleAtoi(member.Scalar(), &index);
      if (!number || index < 0 || index >= count || !seen.insert(index).second) {
        return YamlError(group.path(), member,
                         absl::StrCat("nvlink: gpus: wanted different numbers from 0 to ",
                                      count - 1, " (this host has ", count, " GPUs)"));
      }
      members.push_back(index);
    }
  } else {
    return group.Error("gpus", "wanted a list of GPU numbers of this host, or all");
  }
  if (members.size() < 2) return group.Error("gpus", "wanted at least two GPUs");
  return members;
}

// Between two cards of a group: what the file says, else the lesser of the catalogue's figures, for
// all links of the card or as many as the file says.
absl::StatusOr<double> NvlinkBandwidth(const YamlMap& group, const ClusterHost& host, int a, int b,
                                       int links) {
  if (group.Has("bandwidth")) return group.Bandwidth("bandwidth");
  double least = 0;
  for (int gpu : {a, b}) {
    const GpuFacts* facts = host.facts[gpu];
    if (facts == nullptr || facts->nvlink_links == 0) {
      return group.Error("bandwidth",
                         absl::StrCat("the catalogue knows no NVLink of \"", host.gpus[gpu].name,
                                      "\"; wanted the bandwidth between two GPUs per "
                                      "direction, such as 56.25GB/s"));
    }
    double rate = facts->nvlink_bandwidth_bytes_per_s;
    if (links > 0) rate = rate / facts->nvlink_links * links;
    least = least == 0 ? rate : std::min(least, rate);
  }
  return least;
}

// How many links a pair has when the file does not say: all of the card.
int LinksOf(const GpuFacts* facts) { return facts == nullptr ? 0 : facts->nvlink_links; }

absl::Status ReadNvlinkGroup(const std::string& path, const YAML::Node& node,
                             std::set<std::pair<int, int>>& linked, ClusterHost& out) {
  ASSIGN_OR_RETURN(const YamlMap group,
                   YamlMap::Open(path, node, "nvlink", {"gpus", "bandwidth", "links", "switch"}));
  ASSIGN_OR_RETURN(const std::vector<int> members, ReadMembers(group, out));
  ASSIGN_OR_RETURN(const int64_t links, group.IntOr("links", 1, 64, 0));
  ASSIGN_OR_RETURN(const bool via_switch, group.BoolOr("switch", false));
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = i + 1; j < members.size(); ++j) {
      const auto pair = std::minmax(members[i], members[j]);
      if (!linked.insert(pair).second) {
        return group.Error(
            "gpus", absl::StrCat("GPUs ", pair.first, " and ", pair.second, " are joined twice"));
      }
      Link link = {.a = pair.first, .b = pair.second, .kind = LinkKind::kNvlink};
      ASSIGN_OR_RETURN(link.bandwidth_bytes_per_s,
                       NvlinkBandwidth(group, out, link.a, link.b, static_cast<int>(links)));
      link.count = links > 0 ? static_cast<int>(links)
                             : std::min(LinksOf(out.facts[link.a]), LinksOf(out.facts[link.b]));
      link.via_switch = via_switch;
      out.nvlinks.push_back(link);
    }
  }
  return absl::OkStatus();
}

// "gpu_paths": {cuda:0: pix, ...}.
absl::Status ReadNicPaths(const YamlMap& map, const ClusterHost& host, Nic& nic) {
  ASSIGN_OR_RETURN(const auto paths, map.TextMap("gpu_paths"));
  for (const auto& [id, text] : paths) {
    const absl::StatusOr<LinkKind> kind = ParseLinkKind(text);
    if (!kind.ok()) return map.Error("gpu_paths", kind.status().message());
    const auto gpu = std::find_if(host.gpus.begin(), host.gpus.end(),
                                  [&id = id](const DeviceInfo& other) { return other.id == id; });
    if (gpu == host.gpus.end()) {
      return map.Error("gpu_paths", absl::StrCat("the host has no GPU \"", id, "\""));
    }
    nic.gpu_paths[static_cast<int>(gpu - host.gpus.begin())] = *kind;
  }
  return absl::OkStatus();
}

absl::Status ReadNics(const YamlMap& host, ClusterHost& out) {
  constexpr size_t kMaxNics = 1024;
  ASSIGN_OR_RETURN(const auto maps,
                   YamlMaps(host, "nics", kMaxNics,
                            {"name", "count", "bandwidth", "numa_node", "pci_bus_id", "pci_id",
                             "pci_bridges", "interfaces", "gpu_paths", "sources"}));
  for (const YamlMap& map : maps) {
    Nic nic;
    ASSIGN_OR_RETURN(nic.name, map.StringOr("name", ""));
    ASSIGN_OR_RETURN(nic.bandwidth_bytes_per_s, map.BandwidthOr("bandwidth", 0));
    ASSIGN_OR_RETURN(nic.numa_node, map.IntOr("numa_node", -1, 65535, -1));
    ASSIGN_OR_RETURN(nic.pci_bus_id, map.StringOr("pci_bus_id", ""));
    ASSIGN_OR_RETURN(nic.pci_id, map.StringOr("pci_id", ""));
    ASSIGN_OR_RETURN(nic.pci_bridges, map.Texts("pci_bridges", 64));
    ASSIGN_OR_RETURN(nic.interfaces, map.Texts("interfaces", 1024));
    RETURN_IF_ERROR(ReadNicPaths(map, out, nic));
    ASSIGN_OR_RETURN(nic.sources, map.TextMap("sources"));
    ASSIGN_OR_RETURN(const int64_t count, map.IntOr("count", 1, kMaxNics, 1));
    const std::string name = nic.name;
    for (int64_t i = 0; i < count && out.nics.size() < kMaxNics; ++i) {
      if (count > 1) nic.name = absl::StrCat(name, i);
      out.nics.push_back(nic);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHostName(const YamlMap& map, const std::string& name) {
  for (const char c : name) {
    if (absl::ascii_isspace(c) || c == '/') {
      return map.Error(
          "name", absl::StrCat("wanted a name without blanks and \"/\", found \"", name, "\""));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClusterHost> ReadClusterHost(const std::string& path, const YAML::Node& node,
                                            const GpuCatalogue& catalogue,
                                            std::vector<std::string>& notes) {
  ASSIGN_OR_RETURN(const YamlMap map,
                   YamlMap::Open(path, node, "host",
                                 {"name", "count", "memory", "available", "software", "cpu", "numa",
                                  "gpus", "nvlink", "nics"}));
  ClusterHost out;
  ASSIGN_OR_RETURN(out.host.name, map.StringOr("name", ""));
  RETURN_IF_ERROR(CheckHostName(map, out.host.name));
  ASSIGN_OR_RETURN(out.host.count, map.IntOr("count", 1, kMaxEqualHosts, 1));
  RETURN_IF_ERROR(ReadCpu(map, out, notes));
  ASSIGN_OR_RETURN(out.host.memory_bytes, map.BytesOr("memory", out.host.memory_bytes));
  ASSIGN_OR_RETURN(out.host.available_bytes, map.BytesOr("available", out.host.available_bytes));
  ASSIGN_OR_RETURN(out.host.software, map.TextMap("software"));
  RETURN_IF_ERROR(ReadNuma(map, out));
  if (map.Has("gpus")) {
    ASSIGN_OR_RETURN(const auto gpus, YamlList(path, map.Get("gpus"), "gpus", kMaxGpusOfHost));
    for (const YAML::Node& gpu : gpus)
      RETURN_IF_ERROR(ReadClusterGpu(path, gpu, catalogue, out, notes));
  }
  if (map.Has("nvlink")) {
    ASSIGN_OR_RETURN(const auto groups, YamlList(path, map.Get("nvlink"), "nvlink", 4096));
    std::set<std::pair<int, int>> linked;
    for (const YAML::Node& group : groups) {
      RETURN_IF_ERROR(ReadNvlinkGroup(path, group, linked, out));
    }
  }
  RETURN_IF_ERROR(ReadNics(map, out));
  return out;
}

}  // namespace tprun
