#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cpu_list.h"
#include "topology/hwloc_xml.h"
#include "topology/nvidia_smi_text.h"
#include "topology/pci_path.h"
#include "topology/source.h"
#include "topology/stated_facts.h"
#include "topology/xml_reader.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "hwloc XML";

using Object = HwlocDump::Object;

// "16671616KiB" (version 3) or "16671616", which is in KiB too.
int64_t KibibytesOf(absl::string_view text) {
  return ParseQuantity(text, "KiB").value_or(0) * kKiB;
}

// What NVML, and so hwloc, counts for one link: 20 GB/s of NVLink 1, 25 of 2 to 4, 50 of 5.
double PerLinkMbPerS(absl::string_view gpu_name) {
  if (absl::StrContains(gpu_name, "P100")) return 20000;
  const bool is_blackwell = absl::StrContains(gpu_name, "B100") ||
                            absl::StrContains(gpu_name, "B200") ||
                            absl::StrContains(gpu_name, "B300");
  return is_blackwell ? 50000 : 25000;
}

class HwlocTopologyMaker {
 public:
  HwlocTopologyMaker(const HwlocDump& dump, const std::string& path)
      : dump_(dump), path_(path), topology_(EmptyDump(path)) {}

  absl::StatusOr<Topology> Make() {
    topology_.notes = dump_.notes;
    MakeHost();
    MakeCpu();
    for (size_t i = 0; i < dump_.objects.size(); ++i) {
      if (IsGpu(dump_.objects[i])) gpus_.push_back(static_cast<int>(i));
    }
    if (gpus_.size() > kMaxGpus) {
      return LineError(path_, dump_.objects[gpus_.back()].line, "there are over 256 GPUs");
    }
    const std::vector<int> numbers = GpuNumbers();
    for (size_t i = 0; i < gpus_.size(); ++i) MakeGpu(gpus_[i], numbers, static_cast<int>(i));
    MakePciLinks();
    MakeNvLinks();
    for (const Object& object : dump_.objects) {
      if (object.type == "PCIDev" && object.device_class >> 8 == 0x02) MakeNic(object);
    }
    return std::move(topology_);
  }

 private:
  // Not the video controller of a management processor (ASPEED 1a03, Matrox 102b).
  bool IsGpu(const Object& object) {
    if (object.type != "PCIDev" || object.device_class >> 8 != 0x03) return false;
    if (absl::StartsWith(object.pci_id, "1002:")) {
      topology_.notes.push_back(absl::StrCat(path_, ":", object.line, ": the display device ",
                                             object.bus_id, " of AMD is not read"));
    }
    return absl::StartsWith(object.pci_id, "10de:");
  }

  void MakeHost() {
    Host& host = topology_.hosts[0];
    const auto name = dump_.objects[0].infos.find("HostName");
    if (name != dump_.objects[0].infos.end() && !name->second.empty()) host.name = name->second;
    const std::map<int, int> packages = PackagesOfCpus();
    for (const Object& object : dump_.objects) {
      if (object.type != "NUMANode" || object.os_index < 0) continue;
      host.numa_nodes.push_back({.id = object.os_index,
                                 .memory_bytes = object.local_memory_bytes,
                                 .cpus = FormatCpuList(object.cpus),
                                 .package = PackageOf(object, packages)});
      // A node without CPUs is the memory of a GPU (POWER9), or a slower kind.
      if (!object.cpus.empty()) host.memory_bytes += object.local_memory_bytes;
    }
  }

  // The number of the package of each CPU.
  std::map<int, int> PackagesOfCpus() const {
    std::map<int, int> packages;
    int package = 0;
    for (const Object& object : dump_.objects) {
      if (object.type != "Package" && object.type != "Socket") continue;
      for (int cpu : object.cpus) packages[cpu] = package;
      ++package;
    }
    return packages;
  }

  // The package that has all CPUs of a NUMA node, -1 if none has.
  static int PackageOf(const Object& node, const std::map<int, int>& packages) {
    int package = -1;
    for (int cpu : node.cpus) {
      const auto found = packages.find(cpu);
      if (found == packages.end() || (package >= 0 && found->second != package)) return -1;
      package = found->second;
    }
    return package;
  }

  void MakeCpu() {
    DeviceInfo cpu;
    cpu.id = "cpu";
    for (const Object& object : dump_.objects) {
      cpu.cores += object.type == "Core";
      cpu.threads += object.type == "PU";
      const auto model = object.infos.find("CPUModel");
      if (model == object.infos.end() || !cpu.name.empty()) continue;
      State(cpu.name, std::string(absl::StripAsciiWhitespace(model->second)), "name", kName,
            cpu.sources);
    }
    if (cpu.cores > 0) cpu.sources["cores"] = std::string(kName);
    if (cpu.threads > 0) cpu.sources["threads"] = std::string(kName);
    if (topology_.hosts[0].memory_bytes > 0) {
      State(cpu.memory_bytes, topology_.hosts[0].memory_bytes, "memory_bytes", kName, cpu.sources);
    }
    topology_.devices.push_back(std::move(cpu));
  }

  // The number of a card's view called prefixN ("nvml1"), -1 if it has none.
  int ViewNumber(int gpu, absl::string_view prefix) const {
    for (const int child : dump_.objects[gpu].children) {
      absl::string_view name = dump_.objects[child].name;
      int number = 0;
      if (absl::ConsumePrefix(&name, prefix) && absl::SimpleAtoi(name, &number) && number >= 0 &&
          number < 100000) {
        return number;
      }
    }
    return -1;
  }

  // By NVML, else by CUDA; empty where not all cards have a number of their own.
  std::vector<int> GpuNumbers() const {
    for (absl::string_view prefix : {"nvml", "cuda"}) {
      std::vector<int> numbers;
      for (const int gpu : gpus_) numbers.push_back(ViewNumber(gpu, prefix));
      const std::set<int> distinct(numbers.begin(), numbers.end());
      if (distinct.size() == gpus_.size() && !distinct.count(-1)) return numbers;
    }
    return {};
  }

  // An info of the card's views, "" if there is none.
  std::string InfoOf(int gpu, const std::string& name) const {
    for (const int child : dump_.objects[gpu].children) {
      const auto info = dump_.objects[child].infos.find(name);
      if (info != dump_.objects[child].infos.end()) return info->second;
    }
    return "";
  }

  // The nearest object above that has memory near it.
  const Object* NearMemory(const Object& object) const {
    for (int i = object.parent; i >= 0; i = dump_.objects[i].parent) {
      if (!dump_.objects[i].nodes.empty()) return &dump_.objects[i];
    }
    return nullptr;
  }

  // The one node with CPUs near a card, -1 for several.
  int NumaOf(const Object& object) const {
    const Object* near = NearMemory(object);
    if (near == nullptr) return -1;
    if (near->nodes.size() == 1) return near->nodes[0];
    int node = -1;
    for (const NumaNode& candidate : topology_.hosts[0].numa_nodes) {
      const bool is_near = std::count(near->nodes.begin(), near->nodes.end(), candidate.id) > 0;
      if (!is_near || candidate.cpus.empty()) continue;
      if (node >= 0) return -1;
      node = candidate.id;
    }
    return node;
  }

  std::vector<std::string> BridgesOf(const Object& object) const {
    std::vector<std::string> bridges;
    for (int i = object.parent; i >= 0; i = dump_.objects[i].parent) {
      if (!dump_.objects[i].bus_id.empty()) bridges.push_back(dump_.objects[i].bus_id);
    }
    std::reverse(bridges.begin(), bridges.end());
    return bridges;
  }

  int HostBridgeOf(const Object& object) const {
    for (int i = object.parent; i >= 0; i = dump_.objects[i].parent) {
      if (dump_.objects[i].bridge_type == "0-1") return i;
    }
    return -1;
  }

  void MakeGpu(int index, const std::vector<int>& numbers, int position) {
    const Object& card = dump_.objects[index];
    DeviceInfo gpu = NumberedGpu(numbers.empty() ? position : numbers[position], kName);
    if (numbers.empty()) gpu.sources.erase("id");
    const auto state = [&gpu](auto& member, const auto& value, absl::string_view key) {
      using Value = std::decay_t<decltype(value)>;
      if (value != Value{}) State(member, value, key, kName, gpu.sources);
    };
    state(gpu.name, InfoOf(index, "GPUModel"), "name");
    state(gpu.pci_bus_id, card.bus_id, "pci_bus_id");
    state(gpu.pci_id, card.pci_id, "pci_id");
    state(gpu.memory_bytes, KibibytesOf(InfoOf(index, "CUDAGlobalMemorySize")), "memory_bytes");
    // Published dumps often have their UUIDs zeroed.
    const std::string uuid = InfoOf(index, "NVIDIAUUID");
    if (uuid.find_first_of("123456789abcdef") != std::string::npos) state(gpu.uuid, uuid, "uuid");
    State(gpu.pci_bridges, BridgesOf(card), "pci_bridges", kName, gpu.sources);
    if (NumaOf(card) >= 0) State(gpu.numa_node, NumaOf(card), "numa_node", kName, gpu.sources);
    if (const Object* near = NearMemory(card)) state(gpu.cpus, FormatCpuList(near->cpus), "cpus");
    const int device = static_cast<int>(topology_.devices.size());
    device_of_object_[index] = device;
    topology_.devices.push_back(std::move(gpu));
    if (card.link_gb_per_s <= 0) return;
    topology_.links.push_back({.a = 0,
                               .b = device,
                               .kind = LinkKind::kPcie,
                               .bandwidth_bytes_per_s = card.link_gb_per_s * 1e9,
                               .source = std::string(kName)});
  }

  LinkKind PathOf(const Object& a, const Object& b) const {
    const std::optional<LinkKind> path =
        PathByBridges(BridgesOf(a), BridgesOf(b), SwitchListing::kEveryPort);
    if (path.has_value()) return *path;
    const int bridge = HostBridgeOf(a);
    if (bridge >= 0 && bridge == HostBridgeOf(b)) return LinkKind::kPhb;
    const int node_a = NumaOf(a), node_b = NumaOf(b);
    if (node_a < 0 || node_b < 0) return LinkKind::kPcie;
    return node_a == node_b ? LinkKind::kNode : LinkKind::kSystem;
  }

  void MakePciLinks() {
    for (size_t a = 0; a < gpus_.size(); ++a) {
      for (size_t b = a + 1; b < gpus_.size(); ++b) {
        topology_.links.push_back({.a = device_of_object_[gpus_[a]],
                                   .b = device_of_object_[gpus_[b]],
                                   .kind = PathOf(dump_.objects[gpus_[a]], dump_.objects[gpus_[b]]),
                                   .source = std::string(kName)});
      }
    }
  }

  // What an entry of the matrix is about: a device (index), a switch (-2), something else (-1).
  int EndOf(int object) const {
    for (int i = object; i >= 0; i = dump_.objects[i].parent) {
      if (dump_.objects[i].is_nvswitch()) return -2;
      const auto device = device_of_object_.find(i);
      if (device != device_of_object_.end()) return device->second;
      // On POWER the CPU is an end of NVLinks.
      if (i == object && dump_.objects[i].type == "Package") return 0;
    }
    return -1;
  }

  void AddNvLink(int a, int b, double mb_per_s, bool via_switch) {
    Link link = {.a = std::min(a, b), .b = std::max(a, b), .kind = LinkKind::kNvlink};
    const double per_link = PerLinkMbPerS(topology_.devices[link.b].name);
    link.bandwidth_bytes_per_s = mb_per_s * 1e6;
    link.count = static_cast<int>(std::lround(mb_per_s / per_link));
    link.via_switch = via_switch;
    link.source = std::string(kName);
    topology_.links.push_back(std::move(link));
  }

  void MakeNvLinks() {
    const HwlocDump::LinkMatrix& matrix = dump_.nvlink;
    const size_t count = matrix.objects.size();
    std::vector<int> ends;
    for (const int object : matrix.objects) ends.push_back(EndOf(object));
    std::map<int, double> total, switched;  // MB/s of each GPU
    for (size_t i = 0; i < count; ++i) {
      for (size_t j = 0; j < count; ++j) {
        // The diagonal may be anything (1000000, or 0).
        if (i == j || ends[i] < 0 || ends[i] == ends[j] || matrix.at(i, j) <= 0) continue;
        total[ends[i]] += matrix.at(i, j);
        if (ends[j] == -2) switched[ends[i]] += matrix.at(i, j);
        if (ends[j] >= 0 && i < j) AddNvLink(ends[i], ends[j], matrix.at(i, j), false);
      }
    }
    for (auto a = switched.begin(); a != switched.end(); ++a) {
      for (auto b = std::next(a); b != switched.end(); ++b) {
        AddNvLink(a->first, b->first, std::min(a->second, b->second), true);
      }
    }
    for (const auto& [device, mb_per_s] : total) StateLinks(topology_.devices[device], mb_per_s);
    if (count == 0 && !gpus_.empty()) {
      topology_.notes.push_back(
          absl::StrCat(path_, ": it states no NVLinks, which does not mean that there are none"));
    }
  }

  static void StateLinks(DeviceInfo& gpu, double mb_per_s) {
    if (gpu.kind != DeviceKind::kGpu) return;
    const double per_link = PerLinkMbPerS(gpu.name);
    State(gpu.nvlink_count, static_cast<int>(std::lround(mb_per_s / per_link)), "nvlink_count",
          kName, gpu.sources);
    State(gpu.nvlink_bandwidth_bytes_per_s, per_link * 1e6, "nvlink_bandwidth_bytes_per_s", kName,
          gpu.sources);
  }

  void MakeNic(const Object& card) {
    Nic nic;
    nic.numa_node = NumaOf(card);
    nic.pci_bus_id = card.bus_id;
    nic.pci_id = card.pci_id;
    nic.pci_bridges = BridgesOf(card);
    for (const int child : card.children) {
      const Object& view = dump_.objects[child];
      if (view.type != "OSDev" || view.name.empty()) continue;
      // The name that verbs and NCCL know goes before that of the interface.
      const bool is_verbs =
          dump_.version[0] == '3' ? (view.osdev_type & 32) != 0 : view.osdev_type == 3;
      if (is_verbs && nic.name.empty()) nic.name = view.name;
      nic.interfaces.push_back(view.name);
    }
    if (nic.name.empty()) nic.name = nic.interfaces.empty() ? card.bus_id : nic.interfaces[0];
    for (absl::string_view fact : {"name", "pci_bus_id", "pci_id", "pci_bridges", "gpu_paths"}) {
      nic.sources[std::string(fact)] = std::string(kName);
    }
    if (nic.numa_node >= 0) nic.sources["numa_node"] = std::string(kName);
    for (const int gpu : gpus_) {
      nic.gpu_paths[device_of_object_[gpu]] = PathOf(card, dump_.objects[gpu]);
    }
    topology_.nics.push_back(std::move(nic));
  }

  const HwlocDump& dump_;
  const std::string& path_;
  Topology topology_;
  std::vector<int> gpus_;                // indices into objects, in document order
  std::map<int, int> device_of_object_;  // index into objects -> into devices
};

class HwlocXmlFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override { return XmlRootName(text) == "topology"; }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    ASSIGN_OR_RETURN(const HwlocDump dump, ParseHwlocXml(text, path));
    return HwlocTopologyMaker(dump, path).Make();
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeHwlocXmlFormat() { return std::make_unique<HwlocXmlFormat>(); }

}  // namespace tprun
