#include "tests/topology/dump_facts.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cpu_list.h"
#include "topology/hwloc_xml.h"
#include "topology/nccl_xml.h"
#include "topology/nvidia_smi_csv.h"
#include "topology/nvidia_smi_matrix.h"
#include "topology/nvidia_smi_query.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"

namespace tprun {
namespace {

using nlohmann::json;
using MakeFormat = std::unique_ptr<TopologyFormat> (*)();

json OrNull(const std::string& value) { return value.empty() ? json() : json(value); }
json OrNull(int value) { return value < 0 ? json() : json(value); }

// The GPUs of a topology, numbered as the index does.
struct Gpus {
  explicit Gpus(const Topology& topology) {
    for (size_t i = 0; i < topology.devices.size(); ++i) {
      if (topology.devices[i].kind != DeviceKind::kGpu) continue;
      numbers[static_cast<int>(i)] = static_cast<int>(list.size());
      list.push_back(&topology.devices[i]);
    }
  }
  std::string Pair(const Link& link) const {
    const auto [a, b] = std::minmax(numbers.at(link.a), numbers.at(link.b));
    return absl::StrCat(a, "-", b);
  }
  bool Joins(const Link& link) const { return numbers.count(link.a) && numbers.count(link.b); }

  std::vector<const DeviceInfo*> list;
  std::map<int, int> numbers;  // index into devices -> number
};

json Each(const Gpus& gpus, const std::function<json(const DeviceInfo&)>& fact) {
  json facts = json::array();
  for (const DeviceInfo* gpu : gpus.list) facts.push_back(fact(*gpu));
  return facts;
}

std::string CodeOf(LinkKind kind) {
  if (kind == LinkKind::kSystem) return "SYS";
  return absl::AsciiStrToUpper(LinkKindName(kind));
}

// {"PIX": ["0-1"]} of the links that `wanted` takes.
json PairsByCode(const Topology& topology, const std::function<bool(const Link&)>& wanted) {
  const Gpus gpus(topology);
  std::map<std::string, std::set<std::pair<int, int>>> pairs;
  for (const Link& link : topology.links) {
    if (!gpus.Joins(link) || !wanted(link)) continue;
    const std::string code =
        link.kind == LinkKind::kNvlink ? absl::StrCat("NV", link.count) : CodeOf(link.kind);
    pairs[code].insert(std::minmax(gpus.numbers.at(link.a), gpus.numbers.at(link.b)));
  }
  json facts = json::object();
  for (const auto& [code, list] : pairs) {
    for (const auto& [a, b] : list) facts[code].push_back(absl::StrCat(a, "-", b));
  }
  return facts;
}

json PciPaths(const Topology& topology) {
  return PairsByCode(topology, [](const Link& link) { return link.kind != LinkKind::kNvlink; });
}

absl::StatusOr<json> MatrixFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const NvidiaSmiMatrix matrix, ParseNvidiaSmiMatrix(text, path));
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiMatrixFormat()->Parse(text, path));
  const Gpus gpus(topology);
  json facts = {{"gpu_count", gpus.list.size()},
                {"pairs", PairsByCode(topology, [](const Link&) { return true; })},
                {"nic_count", topology.nics.size()}};
  facts["columns"] = json::array();
  for (int i = 0; i < matrix.affinity_columns; ++i) {
    facts["columns"].push_back(std::string(kAffinityColumns[i]));
  }
  if (matrix.affinity_columns > 0) {
    facts["cpu_affinity"] = Each(gpus, [](const DeviceInfo& gpu) { return OrNull(gpu.cpus); });
  }
  if (matrix.affinity_columns > 1) {
    facts["numa"] = Each(gpus, [](const DeviceInfo& gpu) { return OrNull(gpu.numa_node); });
    // A list stays as it is printed; the topology has the CPU's node of it.
    for (size_t i = 0; i < matrix.gpus.size(); ++i) {
      const std::string printed = matrix.gpus[i].affinities[1].value_or("");
      if (absl::StrContains(printed, ",")) facts["numa"][i] = printed;
    }
  }
  if (matrix.affinity_columns > 2) {
    facts["gpu_numa_id"] =
        Each(gpus, [](const DeviceInfo& gpu) { return OrNull(gpu.memory_numa_node); });
  }
  if (topology.nics.empty()) return facts;
  facts["nic_columns"] = json(
      std::vector<std::string>(matrix.columns.begin() + matrix.gpus.size(), matrix.columns.end()));
  for (const auto& [device, number] : gpus.numbers) {
    std::string cells;
    for (const Nic& nic : topology.nics) {
      absl::StrAppend(&cells, cells.empty() ? "" : " ", CodeOf(nic.gpu_paths.at(device)));
    }
    facts["gpu_nic"][absl::StrCat("GPU", number)] = cells;
  }
  if (!matrix.nic_names.empty()) facts["nic_names"] = matrix.nic_names;
  return facts;
}

absl::StatusOr<json> P2pFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiP2pFormat()->Parse(text, path));
  const Gpus gpus(topology);
  json facts = {{"gpu_count", gpus.list.size()}};
  for (const Link& link : topology.links) {
    const std::string& reason = link.peer_access_reason;
    facts["p2p_rw"][gpus.Pair(link)] =
        link.peer_access == PeerAccess::kYes ? "OK" : reason.substr(0, reason.find(':'));
  }
  const auto matrix = MakeNvidiaSmiMatrixFormat();
  facts["is_topology"] = matrix->Matches(text) || matrix->Parse(text, path).ok();
  return facts;
}

json Names(const Gpus& gpus) {
  return Each(gpus, [](const DeviceInfo& gpu) { return json(gpu.name); });
}

absl::StatusOr<json> NvlinkFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiNvlinkFormat()->Parse(text, path));
  const Gpus gpus(topology);
  std::set<double> rates;
  for (const DeviceInfo* gpu : gpus.list) {
    if (gpu->nvlink_count > 0) rates.insert(gpu->nvlink_bandwidth_bytes_per_s / 1e9);
  }
  json messages = json::object();
  for (const std::string& note : topology.notes) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(note, absl::MaxSplits(": ", 1));
    messages[std::string(absl::StripPrefix(parts.first, "cuda:"))] = std::string(parts.second);
  }
  return json{{"gpu_count", gpus.list.size()},
              {"active_links_per_gpu",
               Each(gpus, [](const DeviceInfo& gpu) { return json(gpu.nvlink_count); })},
              {"link_GBps", rates},
              {"names", Names(gpus)},
              {"messages", messages}};
}

absl::StatusOr<json> ListFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiListFormat()->Parse(text, path));
  const Gpus gpus(topology);
  json instances;
  size_t total = 0;
  for (size_t i = 0; i < gpus.list.size(); ++i) {
    json profiles = json::array();
    for (const MigInstance& instance : gpus.list[i]->mig_instances) {
      profiles.push_back(instance.profile);
    }
    total += profiles.size();
    instances[absl::StrCat(i)] = profiles;
  }
  return json{{"gpu_count", gpus.list.size()},
              {"names", Names(gpus)},
              {"mig_instances", instances},
              {"mig_total", total}};
}

absl::StatusOr<json> CsvFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const NvidiaSmiCsv table, ParseNvidiaSmiCsv(text, path));
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiCsvFormat()->Parse(text, path));
  const Gpus gpus(topology);
  json rows = json::array();
  for (const std::vector<std::string>& values : table.rows) {
    json row;
    for (size_t i = 0; i < values.size(); ++i) row[table.columns[i]] = values[i];
    rows.push_back(row);
  }
  json facts = {{"gpu_count", gpus.list.size()},
                {"columns", table.columns},
                {"rows", rows},
                {"names", Names(gpus)}};
  if (!gpus.list.empty() && gpus.list[0]->memory_bytes > 0) {
    facts["memory_total_mib"] =
        Each(gpus, [](const DeviceInfo& gpu) { return json(gpu.memory_bytes / kMiB); });
  }
  return facts;
}

// nvidia-smi prints domains with eight digits; the index has -q's in lower case.
std::string AsPrinted(const std::string& bus_id) { return absl::StrCat("0000", bus_id); }

absl::StatusOr<json> TableFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiTableFormat()->Parse(text, path));
  const Gpus gpus(topology);
  std::map<std::string, std::string> software = topology.hosts[0].software;
  const std::map<std::string, std::string> mig = {
      {"off", "Disabled"}, {"on", "Enabled"}, {"", "N/A"}};
  return json{{"gpu_count", gpus.list.size()},
              {"header", absl::StrCat("NVIDIA-SMI ", software["nvidia-smi"], " Driver Version: ",
                                      software["driver"], " CUDA Version: ", software["cuda"])},
              {"gpus", Each(gpus, [&](const DeviceInfo& gpu) {
                 return json{{"index", std::stoi(gpu.id.substr(5))},
                             {"name", gpu.name},
                             {"bus", AsPrinted(gpu.pci_bus_id)},
                             {"mem_used_mib", (gpu.memory_bytes - gpu.available_bytes) / kMiB},
                             {"mem_total_mib", gpu.memory_bytes / kMiB},
                             {"mig", mig.at(gpu.mig)}};
               })}};
}

absl::StatusOr<json> QueryFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const NvidiaSmiQuery query, ParseNvidiaSmiQuery(text, path));
  ASSIGN_OR_RETURN(const Topology topology, MakeNvidiaSmiQueryFormat()->Parse(text, path));
  const Gpus gpus(topology);
  std::map<std::string, std::string> software = topology.hosts[0].software;
  size_t next = 0;
  return json{{"driver", software["driver"]},
              {"cuda", software["cuda"]},
              {"attached_gpus", query.attached_gpus},
              {"listed_gpus", gpus.list.size()},
              {"gpus", Each(gpus, [&](const DeviceInfo& gpu) {
                 // The generation now is an idle card's; the topology has that of the busy link.
                 return json{{"bus", AsPrinted(gpu.pci_bus_id)},
                             {"name", gpu.name},
                             {"fb_total_mib", gpu.memory_bytes / kMiB},
                             {"pcie_gen_max", gpu.pcie_max_generation},
                             {"pcie_gen_cur", query.gpus[next++].generation_now},
                             {"width_max", gpu.pcie_max_width},
                             {"width_cur", gpu.pcie_width}};
               })}};
}

json NcclCpus(const Topology& topology, const NcclSystem& system) {
  json cpus = json::array();
  for (size_t i = 0; i < system.cpus.size(); ++i) {
    const NumaNode& node = topology.hosts[0].numa_nodes.at(i);
    cpus.push_back({{"numa", node.id},
                    {"cpulist", OrNull(node.cpus)},
                    {"arch", system.cpus[i].arch},
                    {"vendor", system.cpus[i].vendor}});
  }
  return cpus;
}

const NcclSystem::Pci& PciAt(const NcclSystem& system, const std::string& bus_id) {
  return *std::find_if(system.pcis.begin(), system.pcis.end(),
                       [&](const NcclSystem::Pci& pci) { return pci.bus_id == bus_id; });
}

json NcclGpu(const DeviceInfo& gpu, size_t number, const NcclSystem::Pci& pci) {
  json facts = {{"i", number},
                {"bus", gpu.pci_bus_id},
                {"numa", OrNull(gpu.numa_node)},
                {"link_speed", pci.link_speed},
                {"link_width", pci.link_width}};
  if (pci.gpu_dev >= 0) facts["dev"] = std::stoi(gpu.id.substr(5));
  if (pci.gpu_rank >= 0) facts["rank"] = pci.gpu_rank;
  if (!gpu.compute_capability.empty()) {
    std::string sm = gpu.compute_capability;
    sm.erase(sm.find('.'), 1);
    facts["sm"] = std::stoi(sm);
  }
  if (!gpu.pci_id.empty()) facts["device"] = absl::StrCat("0x", gpu.pci_id.substr(5));
  return facts;
}

void AddNcclLinks(const Topology& topology, const NcclSystem& system, json& facts) {
  const Gpus gpus(topology);
  facts["nvlink_pairs"] = json::object();
  bool via_switch = false;
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink) continue;
    via_switch |= link.via_switch;
    if (!link.via_switch) facts["nvlink_pairs"][gpus.Pair(link)] = link.count;
  }
  std::set<std::string> targets;
  size_t number = 0;
  for (const DeviceInfo* gpu : gpus.list) {
    for (const NcclSystem::NvLink& link : PciAt(system, gpu->pci_bus_id).nvlinks) {
      targets.insert(link.target);
      if (link.target != gpu->pci_bus_id) continue;
      facts["nvlink_self_targets"].push_back(absl::StrCat(number, "->self x", link.count));
    }
    ++number;
  }
  if (!via_switch) return;
  facts["nvlink_via_switch"] = {
      {"links_per_gpu", Each(gpus, [](const DeviceInfo& gpu) { return json(gpu.nvlink_count); })},
      {"switch_targets", targets}};
}

absl::StatusOr<json> NcclFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const NcclSystem system, ParseNcclXml(text, path));
  ASSIGN_OR_RETURN(const Topology topology, MakeNcclXmlFormat()->Parse(text, path));
  const Gpus gpus(topology);
  size_t next = 0;
  json facts = {{"gpu_count", gpus.list.size()},
                {"cpus", NcclCpus(topology, system)},
                {"gpus", Each(gpus,
                              [&](const DeviceInfo& gpu) {
                                return NcclGpu(gpu, next++, PciAt(system, gpu.pci_bus_id));
                              })},
                {"pci_paths", PciPaths(topology)},
                {"nic_count", topology.nics.size()},
                {"nics", json::array()}};
  std::set<int64_t> speeds;
  size_t nets = system.virtual_nets.size();
  for (const NcclSystem::Net& net : system.virtual_nets) speeds.insert(net.megabit_per_s);
  for (const Nic& nic : topology.nics) {
    const NcclSystem::Pci& pci = PciAt(system, nic.pci_bus_id);
    nets += nic.interfaces.size();
    for (const NcclSystem::Net& net : pci.nets) speeds.insert(net.megabit_per_s);
    facts["nics"].push_back({{"bus", nic.pci_bus_id},
                             {"numa", OrNull(nic.numa_node)},
                             {"link_speed", pci.link_speed},
                             {"link_width", pci.link_width},
                             {"nets", nic.interfaces}});
  }
  facts["net_count"] = nets;
  facts["net_speeds_mbps"] = speeds;
  if (!system.virtual_nets.empty()) facts["nets_without_pci"] = system.virtual_nets.size();
  facts["pci_switches"] = 0;
  for (const NcclSystem::Pci& pci : system.pcis) {
    if (pci.is_bridge()) facts["pci_switches"] = facts["pci_switches"].get<int>() + 1;
    const bool is_known = pci.is_bridge() || pci.is_gpu() || pci.is_nic();
    if (!is_known) facts["pci_without_class"].push_back(pci.bus_id);
  }
  AddNcclLinks(topology, system, facts);
  return facts;
}

const HwlocDump::Object& ObjectAt(const HwlocDump& dump, const std::string& bus_id) {
  return *std::find_if(dump.objects.begin(), dump.objects.end(),
                       [&](const HwlocDump::Object& object) { return object.bus_id == bus_id; });
}

// Rounded as the file prints it.
double LinkSpeed(double bytes_per_s) { return std::round(bytes_per_s / 1e3) / 1e6; }

json HwlocGpu(const Topology& topology, const HwlocDump& dump, const DeviceInfo& gpu, size_t i) {
  json facts = {{"i", i},
                {"bus", gpu.pci_bus_id},
                {"pci_id", gpu.pci_id},
                {"numa", OrNull(gpu.numa_node)},
                {"cpus", gpu.cpus},
                {"pci_link_speed_GBps", 0.0}};
  for (const Link& link : topology.links) {
    if (link.a != 0 || &topology.devices[link.b] != &gpu) continue;
    facts["pci_link_speed_GBps"] = LinkSpeed(link.bandwidth_bytes_per_s);
  }
  if (!gpu.name.empty()) facts["model"] = gpu.name;
  for (const int child : ObjectAt(dump, gpu.pci_bus_id).children) {
    const std::string& name = dump.objects[child].name;
    if (absl::StartsWith(name, "nvml")) {
      facts["nvml"] = absl::StrCat("nvml", absl::StripPrefix(gpu.id, "cuda:"));
    }
    if (absl::StartsWith(name, "cuda")) facts["cuda"] = name;
  }
  if (gpu.memory_bytes > 0) facts["vram_kib"] = gpu.memory_bytes / kKiB;
  return facts;
}

void AddHwlocLinks(const Topology& topology, const HwlocDump& dump, json& facts) {
  if (dump.nvlink.objects.empty()) return;
  const Gpus gpus(topology);
  facts["nvlink_matrix_tag"] = dump.nvlink.tag;
  facts["nvlink_matrix_kind"] = dump.nvlink.kind;
  std::map<int, std::set<std::string>> direct;
  std::set<int> totals, counts, per_link;
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink || link.via_switch) continue;
    // Of a CPU (POWER) "cpu", of a GPU its number for NVML.
    std::set<std::string> ends;
    for (const int end : {link.a, link.b}) {
      const std::string& id = topology.devices[end].id;
      ends.insert(id == "cpu" ? id : absl::StrCat("nvml", absl::StripPrefix(id, "cuda:")));
    }
    direct[static_cast<int>(link.bandwidth_bytes_per_s / 1e6)].insert(
        absl::StrCat(*ends.begin(), "~", *ends.rbegin()));
  }
  json& bandwidths = facts["nvlink_bw_MBps"];
  for (const auto& [mb_per_s, pairs] : direct) bandwidths[absl::StrCat(mb_per_s)] = pairs;
  json switches = json::array();
  for (const int object : dump.nvlink.objects) {
    if (dump.objects[object].is_nvswitch()) switches.push_back(dump.objects[object].bus_id);
  }
  if (switches.empty()) return;
  for (const DeviceInfo* gpu : gpus.list) {
    const int mb_per_s = static_cast<int>(gpu->nvlink_bandwidth_bytes_per_s / 1e6);
    counts.insert(gpu->nvlink_count);
    per_link.insert(mb_per_s);
    totals.insert(mb_per_s * gpu->nvlink_count);
  }
  const size_t size = dump.nvlink.objects.size();
  bandwidths["matrix"] = absl::StrCat(size, "x", size);
  bandwidths["gpu_gpu_direct"] = direct.size();
  bandwidths["per_gpu_total"] = totals;
  bandwidths["links_per_gpu"] = counts;
  bandwidths["per_link"] = *per_link.begin();
  bandwidths["nvswitches"] = switches.size();
  bandwidths["nvswitch_buses"] = switches;
}

absl::StatusOr<json> HwlocFacts(const std::string& text, const std::string& path) {
  ASSIGN_OR_RETURN(const HwlocDump dump, ParseHwlocXml(text, path));
  ASSIGN_OR_RETURN(const Topology topology, MakeHwlocXmlFormat()->Parse(text, path));
  const Gpus gpus(topology);
  json facts = {{"hwloc_xml_version", dump.version},
                {"gpu_count", gpus.list.size()},
                {"numa_nodes", json::array()},
                {"gpus", json::array()},
                {"pci_paths", PciPaths(topology)},
                {"nic_count", topology.nics.size()},
                {"nics", json::array()}};
  for (const NumaNode& node : topology.hosts[0].numa_nodes) {
    facts["numa_nodes"].push_back(
        {{"os_index", node.id}, {"cpus", node.cpus}, {"local_memory_bytes", node.memory_bytes}});
  }
  for (size_t i = 0; i < gpus.list.size(); ++i) {
    facts["gpus"].push_back(HwlocGpu(topology, dump, *gpus.list[i], i));
  }
  for (const Nic& nic : topology.nics) {
    facts["nics"].push_back(
        {{"bus", nic.pci_bus_id},
         {"pci_id", nic.pci_id},
         {"numa", OrNull(nic.numa_node)},
         {"pci_link_speed_GBps", LinkSpeed(ObjectAt(dump, nic.pci_bus_id).link_gb_per_s * 1e9)},
         {"osdevs", nic.interfaces}});
  }
  AddHwlocLinks(topology, dump, facts);
  return facts;
}

}  // namespace

absl::StatusOr<json> DumpFacts(const std::string& kind, const std::string& text,
                               const std::string& path) {
  using Facts = absl::StatusOr<json> (*)(const std::string&, const std::string&);
  static const std::map<std::string, Facts> kFacts = {
      {"topo-m", &MatrixFacts}, {"p2p-matrix", &P2pFacts}, {"nvlink-s", &NvlinkFacts},
      {"nvsmi-L", &ListFacts},  {"nvsmi-q", &QueryFacts},  {"nvsmi-table", &TableFacts},
      {"query-csv", &CsvFacts}, {"nccl-xml", &NcclFacts},  {"hwloc-xml", &HwlocFacts}};
  const auto found = kFacts.find(kind);
  if (found == kFacts.end()) {
    return absl::InvalidArgumentError(absl::StrCat("the index has a new kind: ", kind));
  }
  return found->second(text, path);
}

}  // namespace tprun
