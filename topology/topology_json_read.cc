#include "topology/topology_json_read.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/format_topology.h"
#include "topology/source.h"

namespace tprun {
namespace {

constexpr size_t kMaxElements = 1000000;
constexpr int64_t kMaxBytes = int64_t{1} << 50;

// The elements of a list member; absent is empty.
absl::StatusOr<const Json*> ListOf(const Json& object, absl::string_view key) {
  static const Json empty = Json::array();
  const Json* list = FindMember(object, key);
  if (list == nullptr) return &empty;
  if (!list->is_array() || list->size() > kMaxElements) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\": wanted a list of at most ", kMaxElements, " elements"));
  }
  return list;
}

absl::StatusOr<std::vector<std::string>> TextsOf(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const Json* list, ListOf(object, key));
  std::vector<std::string> texts;
  for (const Json& element : *list) {
    if (!element.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted a list of texts"));
    }
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

absl::StatusOr<std::map<std::string, std::string>> TextMapOf(const Json& object,
                                                             absl::string_view key) {
  std::map<std::string, std::string> texts;
  const Json* map = FindMember(object, key);
  if (map == nullptr) return texts;
  if (!map->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted an object of texts"));
  }
  for (const auto& [name, value] : map->items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", key, "\": \"", name, "\": wanted a text"));
    }
    texts[name] = value.get<std::string>();
  }
  return texts;
}

absl::StatusOr<int64_t> IntIn(const Json& object, absl::string_view key, int64_t min, int64_t max) {
  ASSIGN_OR_RETURN(const int64_t value, GetInt(object, key));
  if (value >= min && value <= max) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted a number from ", min, " to ", max, ", found ", value));
}

absl::StatusOr<int> IntInOr(const Json& object, absl::string_view key, int64_t min, int64_t max,
                            int64_t otherwise) {
  if (FindMember(object, key) == nullptr) return static_cast<int>(otherwise);
  ASSIGN_OR_RETURN(const int64_t value, IntIn(object, key, min, max));
  return static_cast<int>(value);
}

absl::StatusOr<double> CheckRate(absl::string_view key, double value, double max) {
  if (value >= 0 && value < max) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted a number from 0 to ", max, ", found ", value));
}

absl::StatusOr<double> RateOr(const Json& object, absl::string_view key, double otherwise) {
  ASSIGN_OR_RETURN(const double value, GetDoubleOr(object, key, otherwise));
  return CheckRate(key, value, 1e18);
}

absl::StatusOr<double> RateOf(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const double value, GetDouble(object, key));
  return CheckRate(key, value, 1e18);
}

absl::StatusOr<double> SecondsOr(const Json& object, absl::string_view key, double otherwise) {
  ASSIGN_OR_RETURN(const double value, GetDoubleOr(object, key, otherwise));
  return CheckRate(key, value, 60);
}

absl::StatusOr<std::map<std::string, double>> OpsOf(const Json& object, absl::string_view key) {
  std::map<std::string, double> rates;
  const Json* map = FindMember(object, key);
  if (map == nullptr) return rates;
  if (!map->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted an object of numbers"));
  }
  for (const auto& [type, value] : map->items()) {
    ASSIGN_OR_RETURN(const double rate, GetDouble(*map, type));
    ASSIGN_OR_RETURN(rates[type], CheckRate(type, rate, 1e21));
  }
  return rates;
}

absl::Status ReadMemory(const Json& json, int64_t& memory_bytes, int64_t& available_bytes) {
  ASSIGN_OR_RETURN(memory_bytes, IntIn(json, "memory_bytes", 0, kMaxBytes));
  ASSIGN_OR_RETURN(available_bytes, IntIn(json, "available_bytes", 0, memory_bytes));
  return absl::OkStatus();
}

absl::StatusOr<Host> ParseHost(const Json& json) {
  Host host;
  ASSIGN_OR_RETURN(host.name, GetString(json, "name"));
  ASSIGN_OR_RETURN(host.count, IntInOr(json, "count", 1, 10000, 1));
  RETURN_IF_ERROR(ReadMemory(json, host.memory_bytes, host.available_bytes));
  ASSIGN_OR_RETURN(const Json* nodes, ListOf(json, "numa_nodes"));
  for (const Json& element : *nodes) {
    NumaNode node;
    ASSIGN_OR_RETURN(node.id, IntIn(element, "id", 0, 65535));
    RETURN_IF_ERROR(ReadMemory(element, node.memory_bytes, node.available_bytes));
    ASSIGN_OR_RETURN(node.cpus, GetStringOr(element, "cpus", ""));
    ASSIGN_OR_RETURN(node.package, IntInOr(element, "package", -1, 65535, -1));
    host.numa_nodes.push_back(std::move(node));
  }
  ASSIGN_OR_RETURN(host.software, TextMapOf(json, "software"));
  return host;
}

absl::Status ParseCpu(const Json& json, DeviceInfo& cpu) {
  ASSIGN_OR_RETURN(cpu.cores, IntIn(json, "cores", 0, 65536));
  ASSIGN_OR_RETURN(cpu.threads, IntIn(json, "threads", 0, 65536));
  ASSIGN_OR_RETURN(cpu.isa, TextsOf(json, "isa"));
  return absl::OkStatus();
}

absl::Status ParseGpuUse(const Json& json, DeviceInfo& gpu) {
  ASSIGN_OR_RETURN(gpu.mig, GetStringOr(json, "mig", ""));
  ASSIGN_OR_RETURN(const Json* instances, ListOf(json, "mig_instances"));
  for (const Json& element : *instances) {
    MigInstance instance;
    ASSIGN_OR_RETURN(instance.profile, GetString(element, "profile"));
    ASSIGN_OR_RETURN(instance.uuid, GetString(element, "uuid"));
    ASSIGN_OR_RETURN(instance.memory_bytes, IntIn(element, "memory_bytes", 0, kMaxBytes));
    gpu.mig_instances.push_back(std::move(instance));
  }
  ASSIGN_OR_RETURN(const Json* processes, ListOf(json, "processes"));
  for (const Json& element : *processes) {
    DeviceProcess process;
    ASSIGN_OR_RETURN(process.pid, IntIn(element, "pid", 0, int64_t{1} << 40));
    ASSIGN_OR_RETURN(process.name, GetString(element, "name"));
    ASSIGN_OR_RETURN(process.memory_bytes, IntIn(element, "memory_bytes", 0, kMaxBytes));
    gpu.processes.push_back(std::move(process));
  }
  return absl::OkStatus();
}

absl::Status ParseGpu(const Json& json, DeviceInfo& gpu) {
  ASSIGN_OR_RETURN(gpu.uuid, GetStringOr(json, "uuid", ""));
  ASSIGN_OR_RETURN(gpu.pci_bus_id, GetStringOr(json, "pci_bus_id", ""));
  ASSIGN_OR_RETURN(gpu.pci_id, GetStringOr(json, "pci_id", ""));
  ASSIGN_OR_RETURN(gpu.pci_bridges, TextsOf(json, "pci_bridges"));
  ASSIGN_OR_RETURN(gpu.compute_capability, GetStringOr(json, "compute_capability", ""));
  ASSIGN_OR_RETURN(gpu.pcie_generation, IntIn(json, "pcie_generation", 0, 7));
  ASSIGN_OR_RETURN(gpu.pcie_max_generation, IntInOr(json, "pcie_max_generation", 0, 7, 0));
  ASSIGN_OR_RETURN(gpu.pcie_width, IntIn(json, "pcie_width", 0, 32));
  ASSIGN_OR_RETURN(gpu.pcie_max_width, IntIn(json, "pcie_max_width", 0, 32));
  ASSIGN_OR_RETURN(gpu.nvlink_count, IntInOr(json, "nvlink_count", 0, 1024, 0));
  ASSIGN_OR_RETURN(gpu.nvlink_bandwidth_bytes_per_s,
                   RateOr(json, "nvlink_bandwidth_bytes_per_s", 0));
  ASSIGN_OR_RETURN(gpu.memory_numa_node, IntInOr(json, "memory_numa_node", -1, 65535, -1));
  return ParseGpuUse(json, gpu);
}

// Files of before have none.
absl::StatusOr<int64_t> OverheadOr(const Json& json, absl::string_view key) {
  if (FindMember(json, key) == nullptr) return 0;
  return IntIn(json, key, 0, kMaxBytes);
}

absl::Status ParseMeasured(const Json& json, DeviceInfo& device) {
  DeviceMeasurements& measured = device.measured;
  const Json* figures = FindMember(json, "measured");
  if (figures == nullptr) {  // version 1
    ASSIGN_OR_RETURN(const bool all, GetBoolOr(json, "bandwidth_measured", false));
    if (all) measured.memory_bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(measured.memory_bandwidth_bytes_per_s,
                   RateOf(*figures, "memory_bandwidth_bytes_per_s"));
  ASSIGN_OR_RETURN(measured.host_to_device_bytes_per_s,
                   RateOf(*figures, "host_to_device_bytes_per_s"));
  ASSIGN_OR_RETURN(measured.device_to_host_bytes_per_s,
                   RateOf(*figures, "device_to_host_bytes_per_s"));
  ASSIGN_OR_RETURN(measured.matmul_ops_per_s, OpsOf(*figures, "matmul_ops_per_s"));
  ASSIGN_OR_RETURN(measured.rank_latency_s, SecondsOr(*figures, "rank_latency_s", 0));
  ASSIGN_OR_RETURN(measured.rank_bandwidth_bytes_per_s,
                   RateOr(*figures, "rank_bandwidth_bytes_per_s", 0));
  ASSIGN_OR_RETURN(measured.context_bytes, OverheadOr(*figures, "context_bytes"));
  ASSIGN_OR_RETURN(measured.nccl_base_bytes, OverheadOr(*figures, "nccl_base_bytes"));
  ASSIGN_OR_RETURN(measured.nccl_channel_bytes, OverheadOr(*figures, "nccl_channel_bytes"));
  ASSIGN_OR_RETURN(measured.date, GetStringOr(*figures, "date", ""));
  return absl::OkStatus();
}

absl::StatusOr<DeviceInfo> ParseDevice(const Json& json, size_t hosts) {
  DeviceInfo device;
  ASSIGN_OR_RETURN(device.id, GetString(json, "id"));
  ASSIGN_OR_RETURN(const std::string kind, GetString(json, "kind"));
  if (kind != "cpu" && kind != "gpu") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"kind\": wanted cpu or gpu, found \"", kind, "\""));
  }
  device.kind = kind == "cpu" ? DeviceKind::kCpu : DeviceKind::kGpu;
  ASSIGN_OR_RETURN(device.name, GetString(json, "name"));
  ASSIGN_OR_RETURN(device.host, IntIn(json, "host", 0, static_cast<int64_t>(hosts) - 1));
  ASSIGN_OR_RETURN(device.numa_node, IntIn(json, "numa_node", -1, 65535));
  ASSIGN_OR_RETURN(device.cpus, GetStringOr(json, "cpus", ""));
  RETURN_IF_ERROR(ReadMemory(json, device.memory_bytes, device.available_bytes));
  ASSIGN_OR_RETURN(device.memory_bandwidth_bytes_per_s,
                   RateOf(json, "memory_bandwidth_bytes_per_s"));
  ASSIGN_OR_RETURN(device.peak_ops_per_s, OpsOf(json, "peak_ops_per_s"));
  RETURN_IF_ERROR(ParseMeasured(json, device));
  RETURN_IF_ERROR(device.kind == DeviceKind::kCpu ? ParseCpu(json, device)
                                                  : ParseGpu(json, device));
  ASSIGN_OR_RETURN(device.sources, TextMapOf(json, "sources"));
  return device;
}

absl::Status ParsePeerAccess(const Json& json, Link& link) {
  ASSIGN_OR_RETURN(const std::string access, GetStringOr(json, "peer_access", "unknown"));
  if (access != "yes" && access != "no" && access != "unknown") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"peer_access\": wanted yes, no or unknown, found \"", access, "\""));
  }
  link.peer_access = access == "yes"  ? PeerAccess::kYes
                     : access == "no" ? PeerAccess::kNo
                                      : PeerAccess::kUnknown;
  ASSIGN_OR_RETURN(link.peer_access_reason, GetStringOr(json, "peer_access_reason", ""));
  ASSIGN_OR_RETURN(link.peer_access_verified, GetBoolOr(json, "peer_access_verified", false));
  return absl::OkStatus();
}

absl::StatusOr<Link> ParseLink(const Json& json, size_t devices) {
  const int64_t last = static_cast<int64_t>(devices) - 1;
  Link link;
  ASSIGN_OR_RETURN(link.a, IntIn(json, "a", 0, last));
  ASSIGN_OR_RETURN(link.b, IntIn(json, "b", 0, last));
  if (link.a == link.b) {
    return absl::InvalidArgumentError("\"b\": wanted another device than \"a\"");
  }
  ASSIGN_OR_RETURN(const std::string kind, GetString(json, "kind"));
  ASSIGN_OR_RETURN(link.kind, ParseLinkKind(kind));
  ASSIGN_OR_RETURN(link.bandwidth_bytes_per_s, RateOf(json, "bandwidth_bytes_per_s"));
  ASSIGN_OR_RETURN(link.latency_s, SecondsOr(json, "latency_s", 0));
  ASSIGN_OR_RETURN(link.count, IntInOr(json, "count", 0, 1024, 0));
  ASSIGN_OR_RETURN(link.via_switch, GetBoolOr(json, "via_switch", false));
  RETURN_IF_ERROR(ParsePeerAccess(json, link));
  ASSIGN_OR_RETURN(link.measured_bandwidth_bytes_per_s,
                   RateOr(json, "measured_bandwidth_bytes_per_s", 0));
  ASSIGN_OR_RETURN(link.measured_latency_s, SecondsOr(json, "measured_latency_s", 0));
  ASSIGN_OR_RETURN(link.source, GetStringOr(json, "source", ""));
  return link;
}

absl::StatusOr<Nic> ParseNic(const Json& json, size_t hosts, size_t devices) {
  Nic nic;
  ASSIGN_OR_RETURN(nic.name, GetString(json, "name"));
  ASSIGN_OR_RETURN(nic.host, IntIn(json, "host", 0, static_cast<int64_t>(hosts) - 1));
  ASSIGN_OR_RETURN(nic.numa_node, IntInOr(json, "numa_node", -1, 65535, -1));
  ASSIGN_OR_RETURN(nic.pci_bus_id, GetStringOr(json, "pci_bus_id", ""));
  ASSIGN_OR_RETURN(nic.pci_id, GetStringOr(json, "pci_id", ""));
  ASSIGN_OR_RETURN(nic.pci_bridges, TextsOf(json, "pci_bridges"));
  ASSIGN_OR_RETURN(nic.bandwidth_bytes_per_s, RateOr(json, "bandwidth_bytes_per_s", 0));
  ASSIGN_OR_RETURN(nic.interfaces, TextsOf(json, "interfaces"));
  ASSIGN_OR_RETURN(const auto paths, TextMapOf(json, "gpu_paths"));
  for (const auto& [text, name] : paths) {
    int device = -1;
    if (!absl::SimpleAtoi(text, &device) || device < 0 || device >= static_cast<int>(devices)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"gpu_paths\": wanted the number of a device, found \"", text, "\""));
    }
    ASSIGN_OR_RETURN(nic.gpu_paths[device], ParseLinkKind(name));
  }
  ASSIGN_OR_RETURN(nic.sources, TextMapOf(json, "sources"));
  return nic;
}

absl::StatusOr<Fabric> ParseFabric(const Json& json, size_t hosts) {
  Fabric fabric;
  ASSIGN_OR_RETURN(fabric.name, GetString(json, "name"));
  ASSIGN_OR_RETURN(const std::string kind, GetStringOr(json, "kind", "network"));
  if (kind != "network" && kind != "nvlink") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"kind\": wanted network or nvlink, found \"", kind, "\""));
  }
  fabric.kind = kind == "nvlink" ? LinkKind::kNvlink : LinkKind::kNetwork;
  ASSIGN_OR_RETURN(const Json* members, ListOf(json, "hosts"));
  for (const Json& member : *members) {
    const int64_t host = member.is_number_integer() ? member.get<int64_t>() : -1;
    if (host < 0 || host >= static_cast<int64_t>(hosts)) {
      return absl::InvalidArgumentError("\"hosts\": wanted a list of numbers of hosts");
    }
    fabric.hosts.push_back(static_cast<int>(host));
  }
  ASSIGN_OR_RETURN(fabric.bandwidth_bytes_per_s, RateOf(json, "bandwidth_bytes_per_s"));
  ASSIGN_OR_RETURN(fabric.nics_per_host, IntInOr(json, "nics_per_host", 1, 1024, 1));
  ASSIGN_OR_RETURN(fabric.latency_s, SecondsOr(json, "latency_s", 0));
  ASSIGN_OR_RETURN(const double ratio, GetDoubleOr(json, "oversubscription", 1));
  if (!(ratio >= 1 && ratio <= 1000)) {
    return absl::InvalidArgumentError("\"oversubscription\": wanted a number from 1 to 1000");
  }
  fabric.oversubscription = ratio;
  return fabric;
}

// Reads every element of a list with `parse`; the error tells which.
template <typename T, typename Parse>
absl::Status ParseList(const Json& json, absl::string_view key, Parse parse, std::vector<T>& out) {
  ASSIGN_OR_RETURN(const Json* list, ListOf(json, key));
  for (const Json& element : *list) {
    absl::StatusOr<T> value = parse(element);
    if (!value.ok()) return Annotate(value.status(), absl::StrCat(key, "[", out.size(), "]"));
    out.push_back(*std::move(value));
  }
  return absl::OkStatus();
}

absl::StatusOr<Topology> Parse(const Json& json) {
  ASSIGN_OR_RETURN(const int64_t version, GetInt(json, "tprun_topology"));
  if (version < 1 || version > kTopologyJsonVersion) {
    return absl::InvalidArgumentError(absl::StrCat("\"tprun_topology\": wanted version 1 to ",
                                                   kTopologyJsonVersion, ", found ", version));
  }
  Topology topology;
  ASSIGN_OR_RETURN(topology.source, GetStringOr(json, "source", ""));
  RETURN_IF_ERROR(ParseList(json, "hosts", ParseHost, topology.hosts));
  const size_t hosts = topology.hosts.size();
  RETURN_IF_ERROR(ParseList(
      json, "devices", [&](const Json& j) { return ParseDevice(j, hosts); }, topology.devices));
  const size_t devices = topology.devices.size();
  RETURN_IF_ERROR(ParseList(
      json, "links", [&](const Json& j) { return ParseLink(j, devices); }, topology.links));
  RETURN_IF_ERROR(ParseList(
      json, "nics", [&](const Json& j) { return ParseNic(j, hosts, devices); }, topology.nics));
  RETURN_IF_ERROR(ParseList(
      json, "fabrics", [&](const Json& j) { return ParseFabric(j, hosts); }, topology.fabrics));
  ASSIGN_OR_RETURN(topology.notes, TextsOf(json, "notes"));
  if (hosts == 0 || devices == 0) {
    return absl::InvalidArgumentError("wanted at least one host and one device");
  }
  return topology;
}

class TopologyJsonFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return "tprun topo --format=json"; }
  bool is_whole() const override { return true; }
  bool Matches(absl::string_view text) const override {
    return absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{") &&
           absl::StrContains(text, "\"tprun_topology\"");
  }
  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    const absl::StatusOr<Json> json = ParseJson(text);
    if (!json.ok()) return Annotate(json.status(), path);
    return ParseTopologyJson(*json, path);
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeTopologyJsonFormat() {
  return std::make_unique<TopologyJsonFormat>();
}

absl::StatusOr<Topology> ParseTopologyJson(const Json& json, const std::string& path) {
  absl::StatusOr<Topology> topology = Parse(json);
  if (!topology.ok()) return Annotate(topology.status(), path);
  return topology;
}

}  // namespace tprun
