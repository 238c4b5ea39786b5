#include "topology/cluster_gpu.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/pcie.h"

namespace tprun {
namespace {

// What the file must say itself when the catalogue does not know the card.
absl::Status NeedsNumbers(const YamlMap& map, absl::string_view key, const std::string& name,
                          const std::string& meant) {
  return map.Error(key, absl::StrCat("the GPU \"", name, "\" is not in the catalogue (gpus.yaml",
                                     meant, "); wanted its memory and bandwidth here, such as ",
                                     "{memory: 24GiB, bandwidth: 936GB/s}"));
}

// "; did you mean rtx4090?" or "".
std::string DidYouMean(const GpuCatalogue& catalogue, const std::string& name) {
  const std::vector<std::string> names = catalogue.Similar(name);
  return names.empty() ? "" : absl::StrCat("; did you mean ", absl::StrJoin(names, " or "), "?");
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
  ASSIGN_OR_RETURN(gpu.pcie_generation, map.IntOr("pcie_generation", 0, 7, gpu.pcie_generation));
  ASSIGN_OR_RETURN(gpu.pcie_width, map.IntOr("pcie_width", 0, 32, gpu.pcie_width));
  ASSIGN_OR_RETURN(gpu.pcie_max_generation, map.IntOr("pcie_max_generation", 0, 7, 0));
  const int card_width = facts != nullptr ? facts->pcie_width : gpu.pcie_width;
  ASSIGN_OR_RETURN(const int64_t max_width,
                   map.IntOr("pcie_max_width", 0, 32, std::max(card_width, gpu.pcie_width)));
  gpu.pcie_max_width = static_cast<int>(max_width);
  return absl::OkStatus();
}

absl::Status ReadMemory(const YamlMap& map, const GpuCatalogue& catalogue, const GpuFacts* facts,
                        DeviceInfo& gpu) {
  if (map.Has("vram") && map.Has("memory")) {
    return map.Error("vram", "is the same as memory; give one of them");
  }
  const char* key = map.Has("vram") ? "vram" : "memory";
  for (const char* needed : {key, "bandwidth"}) {
    if (facts != nullptr || map.Has(needed)) continue;
    return NeedsNumbers(map, needed, gpu.name, DidYouMean(catalogue, gpu.name));
  }
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

absl::Status ReadUse(const YamlMap& map, DeviceInfo& gpu) {
  ASSIGN_OR_RETURN(gpu.mig, map.StringOr("mig", ""));
  ASSIGN_OR_RETURN(const auto instances,
                   YamlMaps(map, "mig_instances", 64, {"profile", "uuid", "memory"}));
  for (const YamlMap& instance : instances) {
    MigInstance mig;
    ASSIGN_OR_RETURN(mig.profile, instance.StringOr("profile", ""));
    ASSIGN_OR_RETURN(mig.uuid, instance.StringOr("uuid", ""));
    ASSIGN_OR_RETURN(mig.memory_bytes, instance.BytesOr("memory", 0));
    gpu.mig_instances.push_back(std::move(mig));
  }
  ASSIGN_OR_RETURN(const auto processes,
                   YamlMaps(map, "processes", 10000, {"pid", "name", "memory"}));
  for (const YamlMap& element : processes) {
    DeviceProcess process;
    ASSIGN_OR_RETURN(process.pid, element.Int("pid", 0, int64_t{1} << 40));
    ASSIGN_OR_RETURN(process.name, element.StringOr("name", ""));
    ASSIGN_OR_RETURN(process.memory_bytes, element.BytesOr("memory", 0));
    gpu.processes.push_back(std::move(process));
  }
  return absl::OkStatus();
}

absl::Status ReadPlace(const YamlMap& map, DeviceInfo& gpu) {
  ASSIGN_OR_RETURN(gpu.numa_node, map.IntOr("numa_node", -1, 65535, -1));
  ASSIGN_OR_RETURN(gpu.memory_numa_node, map.IntOr("memory_numa_node", -1, 65535, -1));
  ASSIGN_OR_RETURN(gpu.cpus, map.StringOr("cpus", ""));
  ASSIGN_OR_RETURN(gpu.pci_bus_id, map.StringOr("pci_bus_id", ""));
  ASSIGN_OR_RETURN(gpu.pci_id, map.StringOr("pci_id", ""));
  ASSIGN_OR_RETURN(gpu.pci_bridges, map.Texts("pci_bridges", 64));
  ASSIGN_OR_RETURN(gpu.uuid, map.StringOr("uuid", ""));
  ASSIGN_OR_RETURN(gpu.nvlink_count, map.IntOr("nvlink_count", 0, 1024, 0));
  ASSIGN_OR_RETURN(gpu.nvlink_bandwidth_bytes_per_s, map.BandwidthOr("nvlink_bandwidth", 0));
  return absl::OkStatus();
}

absl::Status AppendGpus(const YamlMap& map, const std::string& name, const GpuCatalogue& catalogue,
                        ClusterHost& out, std::vector<std::string>& notes) {
  DeviceInfo gpu;
  gpu.kind = DeviceKind::kGpu;
  gpu.name = name;
  const GpuFacts* facts = catalogue.Find(name, MemoryHint(map));
  RETURN_IF_ERROR(ReadMemory(map, catalogue, facts, gpu));
  RETURN_IF_ERROR(ReadPcie(map, facts, gpu, notes));
  RETURN_IF_ERROR(ReadMeasured(map, gpu));
  RETURN_IF_ERROR(ReadPlace(map, gpu));
  RETURN_IF_ERROR(ReadUse(map, gpu));
  ASSIGN_OR_RETURN(gpu.peak_ops_per_s, map.OpsByType("peak"));
  ASSIGN_OR_RETURN(gpu.sources, map.TextMap("sources"));
  ASSIGN_OR_RETURN(const int64_t count, map.IntOr("count", 1, kMaxGpusOfHost, 1));
  if (out.gpus.size() + count > kMaxGpusOfHost) {
    return map.Error("count", absl::StrCat("wanted at most ", kMaxGpusOfHost, " GPUs in a host"));
  }
  for (int64_t i = 0; i < count; ++i) {
    gpu.id = absl::StrCat("cuda:", out.gpus.size());
    if (count == 1) {
      ASSIGN_OR_RETURN(gpu.id, map.StringOr("id", gpu.id));
    }
    for (const DeviceInfo& other : out.gpus) {
      if (other.id == gpu.id) return map.Error("id", "another GPU of the host has this id");
    }
    out.gpus.push_back(gpu);
    out.facts.push_back(facts);
  }
  return absl::OkStatus();
}

absl::StatusOr<YamlMap> OpenGpu(const std::string& path, const YAML::Node& node) {
  return YamlMap::Open(path, node, "gpu",
                       {"name",
                        "id",
                        "count",
                        "memory",
                        "vram",
                        "available",
                        "bandwidth",
                        "measured",
                        "peak",
                        "pcie",
                        "pcie_generation",
                        "pcie_width",
                        "pcie_max_generation",
                        "pcie_max_width",
                        "compute_capability",
                        "numa_node",
                        "memory_numa_node",
                        "cpus",
                        "pci_bus_id",
                        "pci_id",
                        "pci_bridges",
                        "nvlink_count",
                        "nvlink_bandwidth",
                        "uuid",
                        "mig",
                        "mig_instances",
                        "processes",
                        "sources"});
}

// A name alone: all numbers are the catalogue's.
absl::Status ReadNamedGpu(const std::string& path, const YAML::Node& node,
                          const GpuCatalogue& catalogue, ClusterHost& out,
                          std::vector<std::string>& notes) {
  const std::string name = node.Scalar();
  if (catalogue.Find(name) == nullptr) {
    return YamlError(path, node,
                     absl::StrCat("gpus: the GPU \"", name, "\" is not in the catalogue (gpus.yaml",
                                  DidYouMean(catalogue, name),
                                  "); wanted its numbers, as in "
                                  "{name: ",
                                  name, ", memory: 24GiB, bandwidth: 936GB/s}"));
  }
  ASSIGN_OR_RETURN(const YamlMap map, OpenGpu(path, YAML::Node(YAML::NodeType::Map)));
  return AppendGpus(map, name, catalogue, out, notes);
}

}  // namespace

absl::Status CheckAvailable(const YamlMap& map, const DeviceInfo& device) {
  if (device.available_bytes <= device.memory_bytes) return absl::OkStatus();
  return map.Error("available",
                   absl::StrCat("wanted at most the memory of ", FormatBytes(device.memory_bytes),
                                ", found ", FormatBytes(device.available_bytes)));
}

absl::Status ReadMeasured(const YamlMap& map, DeviceInfo& device) {
  if (!map.Has("measured")) return absl::OkStatus();
  DeviceMeasurements& measured = device.measured;
  if (map.Get("measured").IsScalar()) {
    ASSIGN_OR_RETURN(const bool all, map.BoolOr("measured", false));
    if (all) measured.memory_bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(
      const YamlMap figures,
      YamlMap::Open(map.path(), map.Get("measured"), "measured",
                    {"bandwidth", "host_to_device", "device_to_host", "matmul", "rank_latency",
                     "rank_bandwidth", "context", "nccl_base", "nccl_channel", "date"}));
  ASSIGN_OR_RETURN(measured.memory_bandwidth_bytes_per_s, figures.BandwidthOr("bandwidth", 0));
  ASSIGN_OR_RETURN(measured.host_to_device_bytes_per_s, figures.BandwidthOr("host_to_device", 0));
  ASSIGN_OR_RETURN(measured.device_to_host_bytes_per_s, figures.BandwidthOr("device_to_host", 0));
  ASSIGN_OR_RETURN(measured.matmul_ops_per_s, figures.OpsByType("matmul"));
  ASSIGN_OR_RETURN(measured.rank_latency_s, figures.LatencyOr("rank_latency", 0));
  ASSIGN_OR_RETURN(measured.rank_bandwidth_bytes_per_s, figures.BandwidthOr("rank_bandwidth", 0));
  ASSIGN_OR_RETURN(measured.context_bytes, figures.BytesOr("context", 0));
  ASSIGN_OR_RETURN(measured.nccl_base_bytes, figures.BytesOr("nccl_base", 0));
  ASSIGN_OR_RETURN(measured.nccl_channel_bytes, figures.BytesOr("nccl_channel", 0));
  ASSIGN_OR_RETURN(measured.date, figures.StringOr("date", ""));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<YamlMap>> YamlMaps(const YamlMap& map, absl::string_view key, size_t max,
                                              std::initializer_list<absl::string_view> known) {
  std::vector<YamlMap> maps;
  if (!map.Has(key)) return maps;
  ASSIGN_OR_RETURN(const auto nodes, YamlList(map.path(), map.Get(key), key, max));
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(YamlMap element, YamlMap::Open(map.path(), node, key, known));
    maps.push_back(std::move(element));
  }
  return maps;
}

absl::Status ReadClusterGpu(const std::string& path, const YAML::Node& node,
                            const GpuCatalogue& catalogue, ClusterHost& out,
                            std::vector<std::string>& notes) {
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

}  // namespace tprun
