#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/format_topology.h"

namespace tprun {
namespace {

constexpr int64_t kVersion = 1;
constexpr size_t kMaxElements = 1000000;

Json HostJson(const Host& host) {
  Json nodes = Json::array();
  for (const NumaNode& node : host.numa_nodes) {
    nodes.push_back({{"id", node.id},
                     {"memory_bytes", node.memory_bytes},
                     {"available_bytes", node.available_bytes},
                     {"cpus", node.cpus}});
  }
  return {{"name", host.name},
          {"memory_bytes", host.memory_bytes},
          {"available_bytes", host.available_bytes},
          {"numa_nodes", std::move(nodes)}};
}

Json DeviceJson(const DeviceInfo& device) {
  const bool is_cpu = device.kind == DeviceKind::kCpu;
  Json json = {{"id", device.id},
               {"kind", is_cpu ? "cpu" : "gpu"},
               {"name", device.name},
               {"host", device.host},
               {"numa_node", device.numa_node},
               {"memory_bytes", device.memory_bytes},
               {"available_bytes", device.available_bytes},
               {"memory_bandwidth_bytes_per_s", device.memory_bandwidth_bytes_per_s},
               {"bandwidth_measured", device.bandwidth_measured}};
  if (is_cpu) {
    json["cores"] = device.cores;
    json["threads"] = device.threads;
    json["isa"] = device.isa;
  } else {
    json["uuid"] = device.uuid;
    json["pci_bus_id"] = device.pci_bus_id;
    json["compute_capability"] = device.compute_capability;
    json["pcie_generation"] = device.pcie_generation;
    json["pcie_width"] = device.pcie_width;
    json["pcie_max_width"] = device.pcie_max_width;
  }
  return json;
}

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

absl::StatusOr<int64_t> IntIn(const Json& object, absl::string_view key, int64_t min, int64_t max) {
  ASSIGN_OR_RETURN(const int64_t value, GetInt(object, key));
  if (value >= min && value <= max) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted a number from ", min, " to ", max, ", found ", value));
}

absl::StatusOr<double> RateOf(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const double value, GetDouble(object, key));
  if (value >= 0 && value < 1e18) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted a number from 0 to 1e18, found ", value));
}

absl::Status ReadMemory(const Json& json, int64_t& memory_bytes, int64_t& available_bytes) {
  constexpr int64_t kMax = int64_t{1} << 50;
  ASSIGN_OR_RETURN(memory_bytes, IntIn(json, "memory_bytes", 0, kMax));
  ASSIGN_OR_RETURN(available_bytes, IntIn(json, "available_bytes", 0, memory_bytes));
  return absl::OkStatus();
}

absl::StatusOr<Host> ParseHost(const Json& json) {
  Host host;
  ASSIGN_OR_RETURN(host.name, GetString(json, "name"));
  RETURN_IF_ERROR(ReadMemory(json, host.memory_bytes, host.available_bytes));
  ASSIGN_OR_RETURN(const Json* nodes, ListOf(json, "numa_nodes"));
  for (const Json& element : *nodes) {
    NumaNode node;
    ASSIGN_OR_RETURN(const int64_t id, IntIn(element, "id", 0, 65535));
    node.id = static_cast<int>(id);
    RETURN_IF_ERROR(ReadMemory(element, node.memory_bytes, node.available_bytes));
    ASSIGN_OR_RETURN(node.cpus, GetStringOr(element, "cpus", ""));
    host.numa_nodes.push_back(std::move(node));
  }
  return host;
}

absl::Status ParseCpu(const Json& json, DeviceInfo& cpu) {
  ASSIGN_OR_RETURN(const int64_t cores, IntIn(json, "cores", 1, 65536));
  ASSIGN_OR_RETURN(const int64_t threads, IntIn(json, "threads", 1, 65536));
  ASSIGN_OR_RETURN(cpu.isa, TextsOf(json, "isa"));
  cpu.cores = static_cast<int>(cores);
  cpu.threads = static_cast<int>(threads);
  return absl::OkStatus();
}

absl::Status ParseGpu(const Json& json, DeviceInfo& gpu) {
  ASSIGN_OR_RETURN(gpu.uuid, GetStringOr(json, "uuid", ""));
  ASSIGN_OR_RETURN(gpu.pci_bus_id, GetStringOr(json, "pci_bus_id", ""));
  ASSIGN_OR_RETURN(gpu.compute_capability, GetStringOr(json, "compute_capability", ""));
  ASSIGN_OR_RETURN(const int64_t generation, IntIn(json, "pcie_generation", 0, 7));
  ASSIGN_OR_RETURN(const int64_t width, IntIn(json, "pcie_width", 0, 32));
  ASSIGN_OR_RETURN(const int64_t max_width, IntIn(json, "pcie_max_width", 0, 32));
  gpu.pcie_generation = static_cast<int>(generation);
  gpu.pcie_width = static_cast<int>(width);
  gpu.pcie_max_width = static_cast<int>(max_width);
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
  ASSIGN_OR_RETURN(const int64_t host, IntIn(json, "host", 0, static_cast<int64_t>(hosts) - 1));
  ASSIGN_OR_RETURN(const int64_t numa_node, IntIn(json, "numa_node", -1, 65535));
  RETURN_IF_ERROR(ReadMemory(json, device.memory_bytes, device.available_bytes));
  ASSIGN_OR_RETURN(device.memory_bandwidth_bytes_per_s,
                   RateOf(json, "memory_bandwidth_bytes_per_s"));
  ASSIGN_OR_RETURN(device.bandwidth_measured, GetBoolOr(json, "bandwidth_measured", false));
  device.host = static_cast<int>(host);
  device.numa_node = static_cast<int>(numa_node);
  RETURN_IF_ERROR(device.kind == DeviceKind::kCpu ? ParseCpu(json, device)
                                                  : ParseGpu(json, device));
  return device;
}

absl::StatusOr<Link> ParseLink(const Json& json, size_t devices) {
  const int64_t last = static_cast<int64_t>(devices) - 1;
  Link link;
  ASSIGN_OR_RETURN(const int64_t a, IntIn(json, "a", 0, last));
  ASSIGN_OR_RETURN(const int64_t b, IntIn(json, "b", 0, last));
  if (a == b) return absl::InvalidArgumentError("\"b\": wanted another device than \"a\"");
  ASSIGN_OR_RETURN(const std::string kind, GetString(json, "kind"));
  ASSIGN_OR_RETURN(link.kind, ParseLinkKind(kind));
  ASSIGN_OR_RETURN(link.bandwidth_bytes_per_s, RateOf(json, "bandwidth_bytes_per_s"));
  ASSIGN_OR_RETURN(link.latency_s, RateOf(json, "latency_s"));
  link.a = static_cast<int>(a);
  link.b = static_cast<int>(b);
  return link;
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
  if (version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"tprun_topology\": wanted version ", kVersion, ", found ", version));
  }
  Topology topology;
  ASSIGN_OR_RETURN(topology.source, GetStringOr(json, "source", ""));
  RETURN_IF_ERROR(ParseList(json, "hosts", ParseHost, topology.hosts));
  const size_t hosts = topology.hosts.size();
  RETURN_IF_ERROR(ParseList(
      json, "devices", [hosts](const Json& j) { return ParseDevice(j, hosts); }, topology.devices));
  const size_t devices = topology.devices.size();
  RETURN_IF_ERROR(ParseList(
      json, "links", [devices](const Json& j) { return ParseLink(j, devices); }, topology.links));
  ASSIGN_OR_RETURN(topology.notes, TextsOf(json, "notes"));
  if (hosts == 0 || devices == 0) {
    return absl::InvalidArgumentError("wanted at least one host and one device");
  }
  return topology;
}

}  // namespace

Json TopologyJson(const Topology& topology) {
  Json hosts = Json::array();
  for (const Host& host : topology.hosts) hosts.push_back(HostJson(host));
  Json devices = Json::array();
  for (const DeviceInfo& device : topology.devices) devices.push_back(DeviceJson(device));
  Json links = Json::array();
  for (const Link& link : topology.links) {
    links.push_back({{"a", link.a},
                     {"b", link.b},
                     {"kind", std::string(LinkKindName(link.kind))},
                     {"bandwidth_bytes_per_s", link.bandwidth_bytes_per_s},
                     {"latency_s", link.latency_s}});
  }
  return {{"tprun_topology", kVersion},    {"source", topology.source}, {"hosts", std::move(hosts)},
          {"devices", std::move(devices)}, {"links", std::move(links)}, {"notes", topology.notes}};
}

absl::StatusOr<Topology> ParseTopologyJson(const Json& json, const std::string& path) {
  absl::StatusOr<Topology> topology = Parse(json);
  if (!topology.ok()) return Annotate(topology.status(), path);
  return topology;
}

}  // namespace tprun
