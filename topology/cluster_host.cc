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
#include "topology/detect_host.h"
#include "topology/pcie.h"

namespace tprun {
namespace {

constexpr int kMaxGpus = 64;  // per host

absl::Status CheckAvailable(const YamlMap& map, const DeviceInfo& device) {
  if (device.available_bytes <= device.memory_bytes) return absl::OkStatus();
  return map.Error("available",
                   absl::StrCat("wanted at most the memory of ", FormatBytes(device.memory_bytes),
                                ", found ", FormatBytes(device.available_bytes)));
}

absl::Status ReadNuma(const YamlMap& host, ClusterHost& out) {
  if (!host.Has("numa")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto nodes, YamlList(host.path(), host.Get("numa"), "numa", 1024));
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(const YamlMap map, YamlMap::Open(host.path(), node, "numa",
                                                      {"id", "memory", "available", "cpus"}));
    NumaNode numa;
    ASSIGN_OR_RETURN(const int64_t id, map.Int("id", 0, 65535));
    numa.id = static_cast<int>(id);
    ASSIGN_OR_RETURN(numa.memory_bytes, map.Bytes("memory"));
    ASSIGN_OR_RETURN(numa.available_bytes, map.BytesOr("available", numa.memory_bytes));
    ASSIGN_OR_RETURN(numa.cpus, map.StringOr("cpus", ""));
    out.host.numa_nodes.push_back(std::move(numa));
  }
  return absl::OkStatus();
}

absl::Status ReadIsa(const YamlMap& map, DeviceInfo& cpu) {
  if (!map.Has("isa")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto nodes, YamlList(map.path(), map.Get("isa"), "isa", 100));
  for (const YAML::Node& node : nodes) {
    if (!node.IsScalar()) return YamlError(map.path(), node, "isa: wanted names such as avx2");
    cpu.isa.push_back(node.Scalar());
  }
  return absl::OkStatus();
}

absl::Status ReadCpu(const YamlMap& host, ClusterHost& out, std::vector<std::string>& notes) {
  if (!host.Has("cpu")) {
    return host.Error("cpu", "wanted a mapping such as {cores: 16, memory: 64GiB}, found nothing");
  }
  ASSIGN_OR_RETURN(const YamlMap map,
                   YamlMap::Open(host.path(), host.Get("cpu"), "cpu",
                                 {"name", "cores", "threads", "memory", "available", "bandwidth",
                                  "measured", "isa", "numa_node"}));
  DeviceInfo& cpu = out.cpu;
  cpu.id = "cpu";
  ASSIGN_OR_RETURN(cpu.name, map.StringOr("name", "CPU"));
  ASSIGN_OR_RETURN(const int64_t cores, map.Int("cores", 1, 65536));
  ASSIGN_OR_RETURN(const int64_t threads, map.IntOr("threads", 1, 65536, cores));
  ASSIGN_OR_RETURN(const int64_t numa_node, map.IntOr("numa_node", -1, 65535, -1));
  ASSIGN_OR_RETURN(cpu.memory_bytes, map.Bytes("memory"));
  ASSIGN_OR_RETURN(cpu.available_bytes, map.BytesOr("available", cpu.memory_bytes));
  ASSIGN_OR_RETURN(cpu.bandwidth_measured, map.BoolOr("measured", false));
  RETURN_IF_ERROR(CheckAvailable(map, cpu));
  RETURN_IF_ERROR(ReadIsa(map, cpu));
  cpu.cores = static_cast<int>(cores);
  cpu.threads = static_cast<int>(threads);
  cpu.numa_node = static_cast<int>(numa_node);
  ASSIGN_OR_RETURN(cpu.memory_bandwidth_bytes_per_s, map.BandwidthOr("bandwidth", -1));
  if (cpu.memory_bandwidth_bytes_per_s < 0) {
    cpu.memory_bandwidth_bytes_per_s = EstimateCpuBandwidth(cpu.name, cpu.cores, 1);
    notes.push_back(absl::StrCat(out.host.name.empty() ? "cpu" : out.host.name + "/cpu",
                                 ": no bandwidth given, ",
                                 FormatBandwidth(cpu.memory_bandwidth_bytes_per_s), " estimated"));
  }
  out.host.memory_bytes = cpu.memory_bytes;
  out.host.available_bytes = cpu.available_bytes;
  return absl::OkStatus();
}

// What the file must say itself when the catalogue does not know the card.
absl::Status NeedsNumbers(const YamlMap& map, absl::string_view key, const std::string& name) {
  return map.Error(key, absl::StrCat("the GPU \"", name,
                                     "\" is not in the catalogue (gpus.yaml); "
                                     "wanted its memory and bandwidth here, such as ",
                                     "{memory: 24GiB, bandwidth: 936GB/s}"));
}

absl::Status ReadPcie(const YamlMap& map, const GpuFacts* facts, DeviceInfo& gpu,
                      std::vector<std::string>& notes) {
  if (facts != nullptr) {
    gpu.pcie_generation = facts->pcie_generation;
    gpu.pcie_width = facts->pcie_width;
  }
  ASSIGN_OR_RETURN(const std::string text, map.StringOr("pcie", ""));
  if (text == "unknown") {
    gpu.pcie_generation = gpu.pcie_width = 0;
  } else if (!text.empty()) {
    const absl::StatusOr<PcieLink> link = ParsePcie(text);
    if (!link.ok()) return map.Error("pcie", link.status().message());
    gpu.pcie_generation = link->generation;
    gpu.pcie_width = link->width;
  } else if (facts == nullptr) {
    gpu.pcie_generation = 3;
    gpu.pcie_width = 16;
    notes.push_back(absl::StrCat(gpu.name, ": no pcie given, 3x16 assumed"));
  }
  const int card_width = facts != nullptr ? facts->pcie_width : gpu.pcie_width;
  ASSIGN_OR_RETURN(const int64_t max_width,
                   map.IntOr("pcie_max_width", 0, 32, std::max(card_width, gpu.pcie_width)));
  gpu.pcie_max_width = static_cast<int>(max_width);
  return absl::OkStatus();
}

absl::Status ReadMemory(const YamlMap& map, const GpuFacts* facts, DeviceInfo& gpu) {
  if (map.Has("vram") && map.Has("memory")) {
    return map.Error("vram", "is the same as memory; give one of them");
  }
  const char* key = map.Has("vram") ? "vram" : "memory";
  if (facts == nullptr && !map.Has(key)) return NeedsNumbers(map, key, gpu.name);
  if (facts == nullptr && !map.Has("bandwidth")) return NeedsNumbers(map, "bandwidth", gpu.name);
  const GpuFacts known = facts != nullptr ? *facts : GpuFacts();
  ASSIGN_OR_RETURN(gpu.memory_bytes, map.BytesOr(key, known.memory_bytes));
  ASSIGN_OR_RETURN(gpu.available_bytes, map.BytesOr("available", gpu.memory_bytes));
  ASSIGN_OR_RETURN(gpu.memory_bandwidth_bytes_per_s,
                   map.BandwidthOr("bandwidth", known.memory_bandwidth_bytes_per_s));
  ASSIGN_OR_RETURN(gpu.compute_capability,
                   map.StringOr("compute_capability", known.compute_capability));
  return CheckAvailable(map, gpu);
}

// The memory a file gives, to tell cards of one name apart; 0 if none or wrong (told later).
int64_t MemoryHint(const YamlMap& map) {
  for (const char* key : {"memory", "vram"}) {
    if (map.Has(key)) return map.Bytes(key).value_or(0);
  }
  return 0;
}

absl::Status AppendGpus(const YamlMap& map, const std::string& name, const GpuCatalogue& catalogue,
                        ClusterHost& out, std::vector<std::string>& notes) {
  DeviceInfo gpu;
  gpu.kind = DeviceKind::kGpu;
  gpu.name = name;
  const GpuFacts* facts = catalogue.Find(name, MemoryHint(map));
  RETURN_IF_ERROR(ReadMemory(map, facts, gpu));
  RETURN_IF_ERROR(ReadPcie(map, facts, gpu, notes));
  ASSIGN_OR_RETURN(gpu.bandwidth_measured, map.BoolOr("measured", false));
  ASSIGN_OR_RETURN(const int64_t numa_node, map.IntOr("numa_node", -1, 65535, -1));
  ASSIGN_OR_RETURN(gpu.pci_bus_id, map.StringOr("pci_bus_id", ""));
  ASSIGN_OR_RETURN(gpu.uuid, map.StringOr("uuid", ""));
  gpu.numa_node = static_cast<int>(numa_node);
  ASSIGN_OR_RETURN(const int64_t count, map.IntOr("count", 1, kMaxGpus, 1));
  if (out.gpus.size() + count > kMaxGpus) {
    return map.Error("count", absl::StrCat("wanted at most ", kMaxGpus, " GPUs in a host"));
  }
  for (int64_t i = 0; i < count; ++i) {
    gpu.id = absl::StrCat("cuda:", out.gpus.size());
    out.gpus.push_back(gpu);
  }
  return absl::OkStatus();
}

absl::StatusOr<YamlMap> OpenGpu(const std::string& path, const YAML::Node& node) {
  return YamlMap::Open(
      path, node, "gpu",
      {"name", "count", "memory", "vram", "available", "bandwidth", "measured", "pcie",
       "pcie_max_width", "compute_capability", "numa_node", "pci_bus_id", "uuid"});
}

// A name alone: all numbers are the catalogue's.
absl::Status ReadNamedGpu(const std::string& path, const YAML::Node& node,
                          const GpuCatalogue& catalogue, ClusterHost& out,
                          std::vector<std::string>& notes) {
  const std::string name = node.Scalar();
  if (catalogue.Find(name) == nullptr) {
    return YamlError(
        path, node,
        absl::StrCat("gpus: the GPU \"", name,
                     "\" is not in the catalogue (gpus.yaml); wanted its numbers, as in "
                     "{name: ",
                     name, ", memory: 24GiB, bandwidth: 936GB/s}"));
  }
  ASSIGN_OR_RETURN(const YamlMap map, OpenGpu(path, YAML::Node(YAML::NodeType::Map)));
  return AppendGpus(map, name, catalogue, out, notes);
}

// An element of "gpus" is {name: N, ...}, N: {...}, or N alone.
absl::Status ReadGpu(const std::string& path, const YAML::Node& node, const GpuCatalogue& catalogue,
                     ClusterHost& out, std::vector<std::string>& notes) {
  if (node.IsScalar()) return ReadNamedGpu(path, node, catalogue, out, notes);
  if (node.IsMap() && node.size() == 1 && node.begin()->second.IsMap() &&
      node.begin()->first.IsScalar()) {
    const std::string name = node.begin()->first.Scalar();
    ASSIGN_OR_RETURN(const YamlMap map, OpenGpu(path, node.begin()->second));
    if (map.Has("name")) return map.Error("name", "the GPU has a name already, before the colon");
    return AppendGpus(map, name, catalogue, out, notes);
  }
  ASSIGN_OR_RETURN(const YamlMap map, OpenGpu(path, node));
  ASSIGN_OR_RETURN(const std::string name, map.String("name"));
  return AppendGpus(map, name, catalogue, out, notes);
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

// Between two cards of a group: what the file says, else the lesser of the catalogue's figures.
absl::StatusOr<double> NvlinkBandwidth(const YamlMap& group, const GpuCatalogue& catalogue,
                                       const DeviceInfo& a, const DeviceInfo& b) {
  if (group.Has("bandwidth")) return group.Bandwidth("bandwidth");
  double least = 0;
  for (const DeviceInfo* gpu : {&a, &b}) {
    const GpuFacts* facts = catalogue.Find(gpu->name, gpu->memory_bytes);
    if (facts == nullptr || facts->nvlink_links == 0) {
      return group.Error("bandwidth", absl::StrCat("the catalogue knows no NVLink of \"", gpu->name,
                                                   "\"; wanted the bandwidth between two GPUs per "
                                                   "direction, such as 56.25GB/s"));
    }
    const double rate = facts->nvlink_bandwidth_bytes_per_s;
    least = least == 0 ? rate : std::min(least, rate);
  }
  return least;
}

absl::Status ReadNvlinkGroup(const std::string& path, const YAML::Node& node,
                             const GpuCatalogue& catalogue, std::set<std::pair<int, int>>& linked,
                             ClusterHost& out) {
  ASSIGN_OR_RETURN(const YamlMap group, YamlMap::Open(path, node, "nvlink", {"gpus", "bandwidth"}));
  ASSIGN_OR_RETURN(const std::vector<int> members, ReadMembers(group, out));
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = i + 1; j < members.size(); ++j) {
      const auto pair = std::minmax(members[i], members[j]);
      if (!linked.insert(pair).second) {
        return group.Error(
            "gpus", absl::StrCat("GPUs ", pair.first, " and ", pair.second, " are joined twice"));
      }
      Link link = {.a = pair.first, .b = pair.second, .kind = LinkKind::kNvlink};
      ASSIGN_OR_RETURN(link.bandwidth_bytes_per_s,
                       NvlinkBandwidth(group, catalogue, out.gpus[link.a], out.gpus[link.b]));
      out.nvlinks.push_back(link);
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
  ASSIGN_OR_RETURN(
      const YamlMap map,
      YamlMap::Open(path, node, "host", {"name", "count", "cpu", "numa", "gpus", "nvlink"}));
  ClusterHost out;
  ASSIGN_OR_RETURN(out.host.name, map.StringOr("name", ""));
  RETURN_IF_ERROR(CheckHostName(map, out.host.name));
  ASSIGN_OR_RETURN(const int64_t count, map.IntOr("count", 1, 1024, 1));
  out.count = static_cast<int>(count);
  RETURN_IF_ERROR(ReadCpu(map, out, notes));
  RETURN_IF_ERROR(ReadNuma(map, out));
  if (map.Has("gpus")) {
    ASSIGN_OR_RETURN(const auto gpus, YamlList(path, map.Get("gpus"), "gpus", kMaxGpus));
    for (const YAML::Node& gpu : gpus) RETURN_IF_ERROR(ReadGpu(path, gpu, catalogue, out, notes));
  }
  if (map.Has("nvlink")) {
    ASSIGN_OR_RETURN(const auto groups, YamlList(path, map.Get("nvlink"), "nvlink", 4096));
    std::set<std::pair<int, int>> linked;
    for (const YAML::Node& group : groups) {
      RETURN_IF_ERROR(ReadNvlinkGroup(path, group, catalogue, linked, out));
    }
  }
  return out;
}

}  // namespace tprun
