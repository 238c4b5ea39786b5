#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "topology/derive_links.h"
#include "topology/detect_host.h"
#include "topology/gpu_catalogue.h"
#include "topology/path_model.h"
#include "topology/pcie.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

// The entry of a card and what to call it as a source; nullptr for an empty catalogue.
struct Known {
  const GpuFacts* facts = nullptr;
  std::string source;
  bool is_estimate = false;
};

// Looks cards up, each kind once: clusters have very many that are alike.
class CardLookup {
 public:
  explicit CardLookup(const GpuCatalogue& catalogue) : catalogue_(catalogue) {}

  const Known& Of(const DeviceInfo& gpu) {
    const auto key =
        std::make_tuple(gpu.name, gpu.pci_id, gpu.compute_capability, gpu.memory_bytes);
    const auto found = known_.find(key);
    if (found != known_.end()) return found->second;
    return known_.emplace(key, Find(gpu)).first->second;
  }

  // nullptr where there are only estimates.
  const GpuFacts* FactsOf(const DeviceInfo& gpu) {
    const Known& known = Of(gpu);
    return known.is_estimate ? nullptr : known.facts;
  }

 private:
  Known Find(const DeviceInfo& gpu) const {
    if (const GpuFacts* facts = catalogue_.Find(gpu.name, gpu.memory_bytes)) {
      return {facts, "gpus.yaml"};
    }
    if (const GpuFacts* facts = catalogue_.FindPciId(gpu.pci_id, gpu.memory_bytes)) {
      return {facts, "gpus.yaml by PCI id"};
    }
    // Nothing is known of a card that a dump gives by number alone.
    if (gpu.compute_capability.empty() && gpu.memory_bytes == 0) return {};
    const GpuFacts* facts = catalogue_.Nearest(gpu.compute_capability, gpu.memory_bytes);
    if (facts == nullptr) return {};
    return {facts, absl::StrCat("estimate: as ", facts->name), true};
  }

  const GpuCatalogue& catalogue_;
  std::map<std::tuple<std::string, std::string, std::string, int64_t>, Known> known_;
};

template <typename T>
void Fill(T& member, const T& value, absl::string_view name, const std::string& source,
          FactSources& sources) {
  if (member == T() && value != T()) State(member, value, name, source, sources);
}

// A card that tells its width alone cannot have more than the slot gives.
void FillPcie(const Known& known, DeviceInfo& gpu) {
  if (gpu.pcie_generation == 0) {
    Fill(gpu.pcie_generation,
         gpu.pcie_max_generation > 0 ? gpu.pcie_max_generation : known.facts->pcie_generation,
         "pcie_generation", known.source, gpu.sources);
  }
  Fill(gpu.pcie_max_width, known.facts->pcie_width, "pcie_max_width", known.source, gpu.sources);
  Fill(gpu.pcie_width, gpu.pcie_max_width, "pcie_width", known.source, gpu.sources);
}

// What is said of cards that are estimated: the first one's id, and how many more there are.
using Estimates = std::vector<std::pair<std::string, std::pair<std::string, int>>>;

void AddEstimate(const std::string& id, const std::string& what, Estimates& estimates) {
  for (auto& [text, cards] : estimates) {
    if (text != what) continue;
    ++cards.second;
    return;
  }
  estimates.push_back({what, {id, 0}});
}

void CompleteGpu(CardLookup& cards, DeviceInfo& gpu, Estimates& estimates) {
  const Known known = cards.Of(gpu);
  if (known.facts == nullptr) return;
  const bool needed = gpu.memory_bandwidth_bytes_per_s == 0;
  FactSources& sources = gpu.sources;
  if (!known.is_estimate) {
    Fill(gpu.name, known.facts->name, "name", known.source, sources);
    Fill(gpu.compute_capability, known.facts->compute_capability, "compute_capability",
         known.source, sources);
  }
  // Memory is never estimated: a plan would promise what is not there.
  if (!known.is_estimate && gpu.memory_bytes == 0 && known.facts->memory_bytes > 0) {
    State(gpu.memory_bytes, known.facts->memory_bytes, "memory_bytes", known.source, sources);
    if (gpu.available_bytes == 0) {
      State(gpu.available_bytes, gpu.memory_bytes, "available_bytes", "estimate: all free",
            sources);
    }
  }
  Fill(gpu.memory_bandwidth_bytes_per_s, known.facts->memory_bandwidth_bytes_per_s,
       "memory_bandwidth_bytes_per_s", known.source, sources);
  Fill(gpu.peak_ops_per_s, known.facts->peak_ops_per_s, "peak_ops_per_s", known.source, sources);
  FillPcie(known, gpu);
  if (known.is_estimate && needed) {
    AddEstimate(gpu.id,
                absl::StrCat("\"", gpu.name, "\" is not in gpus.yaml; ",
                             FormatBandwidth(gpu.memory_bandwidth_bytes_per_s),
                             " and its other figures are those of ", known.facts->name),
                estimates);
  }
}

void CompleteCpu(DeviceInfo& cpu) {
  if (cpu.memory_bandwidth_bytes_per_s > 0) return;
  State(cpu.memory_bandwidth_bytes_per_s, EstimateCpuBandwidth(cpu, 1),
        "memory_bandwidth_bytes_per_s", "estimate from its cores", cpu.sources);
}

struct Rate {
  double bytes_per_s = 0;
  std::string source = "bandwidth by kind and gpus.yaml";
};

// Per NVLink of a card and direction: as stated, from the catalogue, by compute capability, or that
// of NVLink 2 to 4.
Rate NvlinkRate(CardLookup& cards, const DeviceInfo& gpu) {
  if (gpu.nvlink_bandwidth_bytes_per_s > 0) return {gpu.nvlink_bandwidth_bytes_per_s};
  const GpuFacts* facts = cards.Of(gpu).facts;
  if (facts != nullptr && facts->nvlink_links > 0) {
    return {facts->nvlink_bandwidth_bytes_per_s / facts->nvlink_links};
  }
  const double rate = NvlinkBandwidthOf(gpu.compute_capability);
  if (rate > 0) return {rate};
  return {25e9, "estimate: as NVLink of 25 GB/s"};
}

bool KnowsPcie(const DeviceInfo& device) {
  return device.pcie_generation > 0 && device.pcie_width > 0 && !SlotIsEstimate(device);
}

// Each part that is not known is assumed on its own.
Rate PcieRate(const DeviceInfo& device) {
  Rate rate;
  const int generation = device.pcie_generation > 0 ? device.pcie_generation : 3;
  const int width = device.pcie_width > 0 ? device.pcie_width : 16;
  rate.bytes_per_s = PcieBandwidth(generation, width);
  if (!KnowsPcie(device)) {
    rate.source = absl::StrCat("estimate: as PCIe ", generation, "x", width);
  }
  return rate;
}

// `stated`: of the card's own link with its CPU, 0 where nobody states it. A rate that is stated
// goes before an assumed one.
Rate PcieRate(const DeviceInfo& device, double stated) {
  const Rate rate = PcieRate(device);
  const bool known = KnowsPcie(device);
  if (stated <= 0 || (known && rate.bytes_per_s <= stated)) return rate;
  return {stated, "bandwidth of the link with the CPU"};
}

// Of each device: what is stated of its PCIe link with its CPU.
std::vector<double> StatedCpuRates(const Topology& topology) {
  std::vector<double> rates(topology.devices.size());
  for (const Link& link : topology.links) {
    const bool nvlink = link.kind == LinkKind::kNvlink || link.kind == LinkKind::kC2c;
    if (nvlink || link.kind == LinkKind::kNetwork) continue;
    const bool cpu_a = topology.devices[link.a].kind == DeviceKind::kCpu;
    const bool cpu_b = topology.devices[link.b].kind == DeviceKind::kCpu;
    if (cpu_a == cpu_b) continue;
    double& rate = rates[cpu_a ? link.b : link.a];
    rate = std::max(rate, link.bandwidth_bytes_per_s);
  }
  return rates;
}

void CompleteLink(CardLookup& cards, const Topology& topology, const std::vector<double>& cpu_rates,
                  Link& link) {
  if (link.bandwidth_bytes_per_s > 0 || link.kind == LinkKind::kNetwork) return;
  Rate rate;
  for (int index : {link.a, link.b}) {
    const DeviceInfo& end = topology.devices[index];
    if (end.kind == DeviceKind::kCpu) continue;
    Rate mine;
    if (link.kind == LinkKind::kNvlink) {
      mine = NvlinkRate(cards, end);
      mine.bytes_per_s *= std::max(1, link.count);
    } else if (link.kind == LinkKind::kC2c) {
      mine.bytes_per_s = 450e9;  // NVIDIA Grace Hopper Superchip whitepaper
    } else {
      mine = PcieRate(end, cpu_rates[index]);
    }
    if (rate.bytes_per_s == 0 || mine.bytes_per_s < rate.bytes_per_s) rate = mine;
  }
  link.bandwidth_bytes_per_s = rate.bytes_per_s;
  if (!link.source.empty()) absl::StrAppend(&link.source, "; ");
  absl::StrAppend(&link.source, rate.source);
}

// The matrix shows no switch. Where each card has more links to its peers together than it has at
// all, they are the same links through NVSwitches.
void FindSwitches(CardLookup& cards, Topology& topology) {
  std::vector<int> links_of(topology.devices.size());
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink) continue;
    links_of[link.a] += link.count;
    links_of[link.b] += link.count;
  }
  for (Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink || link.via_switch) continue;
    bool more = true;
    for (int end : {link.a, link.b}) {
      const GpuFacts* facts = cards.FactsOf(topology.devices[end]);
      const int most = facts != nullptr && facts->nvlink_links > 0 ? facts->nvlink_links : 18;
      more = more && links_of[end] > most;
    }
    link.via_switch = more;
  }
}

// Whether the driver offers peer access over PCIe is a property of the card.
void StatePeerAccess(CardLookup& cards, const Topology& topology, Link& link) {
  if (link.peer_access != PeerAccess::kUnknown) return;
  if (link.kind == LinkKind::kNvlink || link.kind == LinkKind::kC2c) return;
  for (int end : {link.a, link.b}) {
    const DeviceInfo& device = topology.devices[end];
    if (device.kind == DeviceKind::kCpu) return;
  }
  for (int end : {link.a, link.b}) {
    const DeviceInfo& device = topology.devices[end];
    const GpuFacts* facts = cards.FactsOf(device);
    if (facts == nullptr || facts->pcie_peer_access.value_or(true)) continue;
    link.peer_access = PeerAccess::kNo;
    link.peer_access_reason = absl::StrCat("the driver offers none to the ", device.name);
    return;
  }
}

}  // namespace

void CompleteTopology(const GpuCatalogue& catalogue, Topology& topology) {
  CardLookup cards(catalogue);
  Estimates estimates;
  for (DeviceInfo& device : topology.devices) {
    if (device.kind == DeviceKind::kCpu) {
      CompleteCpu(device);
    } else {
      CompleteGpu(cards, device, estimates);
    }
  }
  for (const auto& [what, gpus] : estimates) {
    const std::string more = gpus.second == 0 ? "" : absl::StrCat(" (and ", gpus.second, " more)");
    topology.notes.push_back(absl::StrCat(gpus.first, more, ": ", what));
  }
  const std::vector<double> cpu_rates = StatedCpuRates(topology);
  AddHostLinks(topology);
  FindSwitches(cards, topology);
  for (Link& link : topology.links) {
    CompleteLink(cards, topology, cpu_rates, link);
    StatePeerAccess(cards, topology, link);
  }
}

}  // namespace tprun
