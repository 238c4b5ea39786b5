#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/nccl_xml.h"
#include "topology/nvidia_smi_text.h"
#include "topology/pci_path.h"
#include "topology/source.h"
#include "topology/stated_facts.h"
#include "topology/xml_reader.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "NCCL XML";

// Makes a Topology of what the XML says. Devices are the CPU of each host, then the GPUs in the
// order of their ranks (or of the file, where not all have one).
class NcclTopologyMaker {
 public:
  NcclTopologyMaker(const NcclSystem& system, const std::string& path)
      : system_(system), path_(path), topology_(EmptyDump(path)) {}

  absl::StatusOr<Topology> Make() {
    topology_.notes = system_.notes;
    MakeHosts();
    for (size_t i = 0; i < system_.pcis.size(); ++i) {
      if (system_.pcis[i].is_gpu()) gpus_.push_back(static_cast<int>(i));
    }
    if (gpus_.size() > kMaxGpus) {
      return LineError(path_, system_.pcis[gpus_.back()].line, "there are over 256 GPUs");
    }
    OrderByRank();
    for (size_t i = 0; i < gpus_.size(); ++i) MakeGpu(static_cast<int>(i));
    for (size_t a = 0; a < gpus_.size(); ++a) {
      for (size_t b = a + 1; b < gpus_.size(); ++b) MakePciLink(a, b);
    }
    for (const int gpu : gpus_) ReadNvLinks(gpu);
    MakeNvLinks();
    for (const NcclSystem::Pci& pci : system_.pcis) {
      if (pci.is_nic() && !pci.is_gpu()) MakeNic(pci);
    }
    NoteOddities();
    return std::move(topology_);
  }

 private:
  using Pci = NcclSystem::Pci;

  int HostOf(const Pci& pci) const { return host_of_cpu_[pci.cpu]; }
  int NumaOf(const Pci& pci) const { return system_.cpus[pci.cpu].numa; }
  int DeviceOf(int pci) const { return device_of_pci_.at(pci); }

  // One host for each host_hash; nearly always there is one.
  void MakeHosts() {
    std::map<std::string, int> by_hash;
    topology_.hosts.clear();
    for (const NcclSystem::Cpu& cpu : system_.cpus) {
      const auto [found, is_new] = by_hash.insert({cpu.host_hash, topology_.hosts.size()});
      host_of_cpu_.push_back(found->second);
      if (is_new) {
        topology_.hosts.push_back({.name = std::string(kUnnamedHost)});
        MakeCpuDevice(cpu, found->second);
      }
      AddNumaNode(cpu, topology_.hosts[found->second]);
    }
    if (topology_.hosts.empty()) topology_.hosts.push_back({.name = std::string(kUnnamedHost)});
    for (size_t i = 0; topology_.hosts.size() > 1 && i < topology_.hosts.size(); ++i) {
      topology_.hosts[i].name = absl::StrCat(kUnnamedHost, i);
    }
  }

  void MakeCpuDevice(const NcclSystem::Cpu& cpu, int host) {
    DeviceInfo device;
    device.id = "cpu";
    device.host = host;
    if (!cpu.vendor.empty() || !cpu.arch.empty()) {
      State(device.name,
            absl::StrCat(cpu.vendor, cpu.vendor.empty() || cpu.arch.empty() ? "" : " ", cpu.arch),
            "name", kName, device.sources);
    }
    topology_.devices.push_back(std::move(device));
  }

  static void AddNumaNode(const NcclSystem::Cpu& cpu, Host& host) {
    if (cpu.numa < 0) return;
    for (const NumaNode& node : host.numa_nodes) {
      if (node.id == cpu.numa) return;
    }
    host.numa_nodes.push_back({.id = cpu.numa, .cpus = cpu.cpus.value_or("")});
  }

  void OrderByRank() {
    std::set<int> ranks;
    for (const int gpu : gpus_) ranks.insert(system_.pcis[gpu].gpu_rank);
    if (ranks.size() != gpus_.size() || ranks.count(-1)) return;
    std::sort(gpus_.begin(), gpus_.end(),
              [this](int a, int b) { return system_.pcis[a].gpu_rank < system_.pcis[b].gpu_rank; });
  }

  // Whether `dev` numbers the GPUs of every host uniquely, so that it can name them.
  bool DevsAreDistinct() const {
    std::set<std::pair<int, int>> devs;
    for (const int gpu : gpus_) {
      const Pci& pci = system_.pcis[gpu];
      if (pci.gpu_dev < 0 || !devs.insert({HostOf(pci), pci.gpu_dev}).second) return false;
    }
    return true;
  }

  std::vector<std::string> BridgesOf(const Pci& pci) const {
    std::vector<std::string> bridges;
    for (int i = pci.parent; i >= 0; i = system_.pcis[i].parent) {
      bridges.push_back(system_.pcis[i].bus_id);
    }
    std::reverse(bridges.begin(), bridges.end());
    return bridges;
  }

  void MakeGpu(int number) {
    const Pci& pci = system_.pcis[gpus_[number]];
    const bool has_number = DevsAreDistinct();
    DeviceInfo gpu = NumberedGpu(has_number ? pci.gpu_dev : number, kName);
    if (!has_number) gpu.sources.erase("id");
    gpu.host = HostOf(pci);
    const auto state = [&gpu](auto& member, const auto& value, absl::string_view key) {
      using Value = std::decay_t<decltype(value)>;
      if (value != Value{}) State(member, value, key, kName, gpu.sources);
    };
    state(gpu.pci_bus_id, pci.bus_id, "pci_bus_id");
    state(gpu.pci_id, pci.pci_id, "pci_id");
    state(gpu.pcie_generation, pci.pcie_generation(), "pcie_generation");
    state(gpu.pcie_width, pci.pcie_width(), "pcie_width");
    State(gpu.pci_bridges, BridgesOf(pci), "pci_bridges", kName, gpu.sources);
    if (NumaOf(pci) >= 0) State(gpu.numa_node, NumaOf(pci), "numa_node", kName, gpu.sources);
    const std::optional<std::string>& cpus = system_.cpus[pci.cpu].cpus;
    if (cpus.has_value()) state(gpu.cpus, *cpus, "cpus");
    if (pci.gpu_sm >= 10 && pci.gpu_sm < 1000) {
      state(gpu.compute_capability, absl::StrCat(pci.gpu_sm / 10, ".", pci.gpu_sm % 10),
            "compute_capability");
    }
    device_of_pci_[gpus_[number]] = static_cast<int>(topology_.devices.size());
    topology_.devices.push_back(std::move(gpu));
    if (pci.c2c_bytes_per_s > 0) MakeC2c(pci);
  }

  void MakeC2c(const Pci& pci) {
    const int gpu = static_cast<int>(topology_.devices.size()) - 1;
    topology_.links.push_back({.a = HostOf(pci),  // the CPUs come first, one a host
                               .b = gpu,
                               .kind = LinkKind::kC2c,
                               .bandwidth_bytes_per_s = pci.c2c_bytes_per_s,
                               .source = std::string(kName)});
  }

  // The file cannot tell PHB from NODE below one <cpu>; NCCL itself says PHB.
  LinkKind PathOf(const Pci& a, const Pci& b) const {
    const std::optional<LinkKind> path =
        PathByBridges(BridgesOf(a), BridgesOf(b), SwitchListing::kOnce);
    if (path.has_value()) return *path;
    return a.cpu == b.cpu ? LinkKind::kPhb : LinkKind::kSystem;
  }

  void MakePciLink(size_t a, size_t b) {
    const Pci& first = system_.pcis[gpus_[a]];
    const Pci& second = system_.pcis[gpus_[b]];
    if (HostOf(first) != HostOf(second)) return;
    topology_.links.push_back({.a = DeviceOf(gpus_[a]),
                               .b = DeviceOf(gpus_[b]),
                               .kind = PathOf(first, second),
                               .source = std::string(kName)});
  }

  // Direct links are listed at both ends, the links to switches at the GPU's only.
  void ReadNvLinks(int gpu) {
    const Pci& pci = system_.pcis[gpu];
    int total = 0;
    for (const NcclSystem::NvLink& link : pci.nvlinks) {
      if (!link.target.empty() && link.target == pci.bus_id) {
        topology_.notes.push_back(absl::StrCat(path_, ":", link.line, ": ", link.count,
                                               " NVLinks of ", pci.bus_id,
                                               " lead to itself; they are left out"));
        continue;
      }
      total += link.count;
      const int peer = GpuAt(HostOf(pci), link.target);
      if (peer >= 0) {
        direct_[std::minmax(DeviceOf(gpu), DeviceOf(peer))][gpu] += link.count;
      } else if (link.target_class >> 8 == 0x0680 && link.target_class != 0x068000) {
        cpu_links_[DeviceOf(gpu)] += link.count;  // 0x068001: a POWER CPU
      } else {
        switched_[DeviceOf(gpu)] += link.count;
      }
    }
    DeviceInfo& device = topology_.devices[DeviceOf(gpu)];
    if (total > 0) State(device.nvlink_count, total, "nvlink_count", kName, device.sources);
  }

  int GpuAt(int host, const std::string& bus_id) const {
    for (const int gpu : gpus_) {
      const Pci& pci = system_.pcis[gpu];
      if (!bus_id.empty() && pci.bus_id == bus_id && HostOf(pci) == host) return gpu;
    }
    return -1;
  }

  void MakeNvLinks() {
    const auto add = [this](int a, int b, int count, bool via_switch) {
      topology_.links.push_back({.a = a,
                                 .b = b,
                                 .kind = LinkKind::kNvlink,
                                 .count = count,
                                 .via_switch = via_switch,
                                 .source = std::string(kName)});
    };
    for (const auto& [pair, counts] : direct_) {
      int most = 0;
      for (const auto& [gpu, count] : counts) most = std::max(most, count);
      add(pair.first, pair.second, most, false);
    }
    for (const auto& [gpu, count] : cpu_links_) add(topology_.devices[gpu].host, gpu, count, false);
    for (auto a = switched_.begin(); a != switched_.end(); ++a) {
      for (auto b = std::next(a); b != switched_.end(); ++b) {
        add(a->first, b->first, std::min(a->second, b->second), true);
      }
    }
  }

  void MakeNic(const Pci& pci) {
    Nic nic;
    nic.host = HostOf(pci);
    nic.numa_node = NumaOf(pci);
    nic.pci_bus_id = pci.bus_id;
    nic.pci_id = pci.pci_id;
    nic.pci_bridges = BridgesOf(pci);
    int64_t megabits = 0;
    for (const NcclSystem::Net& net : pci.nets) {
      nic.interfaces.push_back(net.name);
      megabits += net.megabit_per_s;
    }
    nic.name = nic.interfaces.empty() ? pci.bus_id : nic.interfaces.front();
    if (megabits > 0) {
      State(nic.bandwidth_bytes_per_s, megabits * 1e6 / 8, "bandwidth_bytes_per_s", kName,
            nic.sources);
    }
    if (nic.numa_node >= 0) nic.sources["numa_node"] = std::string(kName);
    for (absl::string_view fact : {"name", "pci_bus_id", "pci_bridges", "gpu_paths"}) {
      nic.sources[std::string(fact)] = std::string(kName);
    }
    for (const int gpu : gpus_) {
      const Pci& card = system_.pcis[gpu];
      if (HostOf(card) == nic.host) nic.gpu_paths[DeviceOf(gpu)] = PathOf(pci, card);
    }
    topology_.nics.push_back(std::move(nic));
  }

  void NoteOddities() {
    int unknown = 0;
    std::string first;
    for (const Pci& pci : system_.pcis) {
      if (pci.device_class >= 0 || pci.has_children || pci.is_gpu() || pci.is_nic()) continue;
      if (unknown++ == 0) first = pci.bus_id;
    }
    if (unknown > 0) {
      topology_.notes.push_back(absl::StrCat(path_, ": ", unknown, " PCI devices (", first,
                                             ", ...) have no class: what they are is not known"));
    }
    if (gpus_.empty()) topology_.notes.push_back(absl::StrCat(path_, ": it lists no GPUs"));
    if (!gpus_.empty() && direct_.empty() && switched_.empty() && cpu_links_.empty()) {
      topology_.notes.push_back(
          absl::StrCat(path_, ": it states no NVLinks, which does not mean that there are none"));
    }
  }

  const NcclSystem& system_;
  const std::string& path_;
  Topology topology_;
  std::vector<int> host_of_cpu_;
  std::vector<int> gpus_;             // indices into pcis, in the order of the devices
  std::map<int, int> device_of_pci_;  // index into pcis -> into devices
  std::map<std::pair<int, int>, std::map<int, int>> direct_;  // devices -> links by stating GPU
  std::map<int, int> switched_, cpu_links_;                   // device -> links
};

class NcclXmlFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override { return XmlRootName(text) == "system"; }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    ASSIGN_OR_RETURN(const NcclSystem system, ParseNcclXml(text, path));
    return NcclTopologyMaker(system, path).Make();
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNcclXmlFormat() { return std::make_unique<NcclXmlFormat>(); }

}  // namespace tprun
