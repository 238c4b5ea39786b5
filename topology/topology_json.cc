#include <utility>

#include "base/status_macros.h"
#include "topology/format_topology.h"
#include "topology/topology_json_read.h"

namespace tprun {
namespace {

Json HostJson(const Host& host) {
  Json nodes = Json::array();
  for (const NumaNode& node : host.numa_nodes) {
    nodes.push_back({{"id", node.id},
                     {"memory_bytes", node.memory_bytes},
                     {"available_bytes", node.available_bytes},
                     {"cpus", node.cpus},
                     {"package", node.package}});
  }
  return {{"name", host.name},
          {"count", host.count},
          {"memory_bytes", host.memory_bytes},
          {"available_bytes", host.available_bytes},
          {"numa_nodes", std::move(nodes)},
          {"software", host.software}};
}

Json MeasuredJson(const DeviceMeasurements& measured) {
  return {{"memory_bandwidth_bytes_per_s", measured.memory_bandwidth_bytes_per_s},
          {"host_to_device_bytes_per_s", measured.host_to_device_bytes_per_s},
          {"device_to_host_bytes_per_s", measured.device_to_host_bytes_per_s},
          {"matmul_ops_per_s", measured.matmul_ops_per_s},
          {"rank_latency_s", measured.rank_latency_s},
          {"rank_bandwidth_bytes_per_s", measured.rank_bandwidth_bytes_per_s},
          {"context_bytes", measured.context_bytes},
          {"nccl_base_bytes", measured.nccl_base_bytes},
          {"nccl_channel_bytes", measured.nccl_channel_bytes},
          {"date", measured.date}};
}

void AddGpuMembers(const DeviceInfo& gpu, Json& json) {
  Json instances = Json::array();
  for (const MigInstance& instance : gpu.mig_instances) {
    instances.push_back({{"profile", instance.profile},
                         {"uuid", instance.uuid},
                         {"memory_bytes", instance.memory_bytes}});
  }
  Json processes = Json::array();
  for (const DeviceProcess& process : gpu.processes) {
    processes.push_back(
        {{"pid", process.pid}, {"name", process.name}, {"memory_bytes", process.memory_bytes}});
  }
  json["uuid"] = gpu.uuid;
  json["pci_bus_id"] = gpu.pci_bus_id;
  json["pci_id"] = gpu.pci_id;
  json["pci_bridges"] = gpu.pci_bridges;
  json["compute_capability"] = gpu.compute_capability;
  json["pcie_generation"] = gpu.pcie_generation;
  json["pcie_max_generation"] = gpu.pcie_max_generation;
  json["pcie_width"] = gpu.pcie_width;
  json["pcie_max_width"] = gpu.pcie_max_width;
  json["nvlink_count"] = gpu.nvlink_count;
  json["nvlink_bandwidth_bytes_per_s"] = gpu.nvlink_bandwidth_bytes_per_s;
  json["memory_numa_node"] = gpu.memory_numa_node;
  json["mig"] = gpu.mig;
  json["mig_instances"] = std::move(instances);
  json["processes"] = std::move(processes);
}

Json DeviceJson(const DeviceInfo& device) {
  const bool is_cpu = device.kind == DeviceKind::kCpu;
  Json json = {{"id", device.id},
               {"kind", is_cpu ? "cpu" : "gpu"},
               {"name", device.name},
               {"host", device.host},
               {"numa_node", device.numa_node},
               {"cpus", device.cpus},
               {"memory_bytes", device.memory_bytes},
               {"available_bytes", device.available_bytes},
               {"memory_bandwidth_bytes_per_s", device.memory_bandwidth_bytes_per_s},
               {"peak_ops_per_s", device.peak_ops_per_s},
               {"measured", MeasuredJson(device.measured)}};
  if (is_cpu) {
    json["cores"] = device.cores;
    json["threads"] = device.threads;
    json["isa"] = device.isa;
  } else {
    AddGpuMembers(device, json);
  }
  json["sources"] = device.sources;
  return json;
}

const char* AccessName(PeerAccess access) {
  return access == PeerAccess::kYes ? "yes" : access == PeerAccess::kNo ? "no" : "unknown";
}

Json LinkJson(const Link& link) {
  return {{"a", link.a},
          {"b", link.b},
          {"kind", std::string(LinkKindName(link.kind))},
          {"bandwidth_bytes_per_s", link.bandwidth_bytes_per_s},
          {"latency_s", link.latency_s},
          {"count", link.count},
          {"via_switch", link.via_switch},
          {"peer_access", AccessName(link.peer_access)},
          {"peer_access_reason", link.peer_access_reason},
          {"peer_access_verified", link.peer_access_verified},
          {"measured_bandwidth_bytes_per_s", link.measured_bandwidth_bytes_per_s},
          {"measured_latency_s", link.measured_latency_s},
          {"source", link.source}};
}

Json NicJson(const Nic& nic) {
  Json paths = Json::object();
  for (const auto& [device, kind] : nic.gpu_paths) {
    paths[std::to_string(device)] = std::string(LinkKindName(kind));
  }
  return {{"name", nic.name},
          {"host", nic.host},
          {"numa_node", nic.numa_node},
          {"pci_bus_id", nic.pci_bus_id},
          {"pci_id", nic.pci_id},
          {"pci_bridges", nic.pci_bridges},
          {"bandwidth_bytes_per_s", nic.bandwidth_bytes_per_s},
          {"interfaces", nic.interfaces},
          {"gpu_paths", std::move(paths)},
          {"sources", nic.sources}};
}

Json FabricJson(const Fabric& fabric) {
  return {{"name", fabric.name},
          {"kind", std::string(LinkKindName(fabric.kind))},
          {"hosts", fabric.hosts},
          {"bandwidth_bytes_per_s", fabric.bandwidth_bytes_per_s},
          {"nics_per_host", fabric.nics_per_host},
          {"latency_s", fabric.latency_s},
          {"oversubscription", fabric.oversubscription}};
}

template <typename T, typename Write>
Json ListJson(const std::vector<T>& values, Write write) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(write(value));
  return list;
}

}  // namespace

Json TopologyJson(const Topology& topology) {
  return {{"tprun_topology", kTopologyJsonVersion},
          {"source", topology.source},
          {"hosts", ListJson(topology.hosts, HostJson)},
          {"devices", ListJson(topology.devices, DeviceJson)},
          {"links", ListJson(topology.links, LinkJson)},
          {"nics", ListJson(topology.nics, NicJson)},
          {"fabrics", ListJson(topology.fabrics, FabricJson)},
          {"notes", topology.notes}};
}

}  // namespace tprun
