#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "topology/detect_gpus.h"
#include "topology/nvml_api.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

constexpr unsigned kMaxGpus = 256;

// A card as NVML numbers it (PCI order), with its NVLink ends.
struct Card {
  nvml::Device handle = nullptr;
  DeviceInfo info;
  std::map<std::string, double> peers;  // PCI id of the other GPU -> bandwidth of all links to it
  double to_switch = 0;                 // bandwidth of all links to NVSwitches
};

// The sysfs spelling: "0000:65:00.0".
std::string PciId(const nvml::PciInfo& pci) {
  return absl::StrFormat("%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
}

int64_t ToInt64(unsigned long long value) {
  return static_cast<int64_t>(
      std::min<unsigned long long>(value, std::numeric_limits<int64_t>::max()));
}

// Version 2 tells what the driver keeps for itself apart; its "free" is the honest one.
bool ReadMemory(const NvmlApi& api, Card& card) {
  nvml::MemoryV2 v2 = {};
  v2.version = nvml::kMemoryV2;
  if (api.MemoryInfoV2 != nullptr && api.MemoryInfoV2(card.handle, &v2) == nvml::kSuccess) {
    card.info.memory_bytes = ToInt64(v2.total);
    card.info.available_bytes = ToInt64(v2.free);
    return true;
  }
  nvml::Memory v1 = {};
  if (api.MemoryInfo(card.handle, &v1) != nvml::kSuccess) return false;
  card.info.memory_bytes = ToInt64(v1.total);
  card.info.available_bytes = ToInt64(v1.free);
  return true;
}

int ReadNumber(nvml::Return (*function)(nvml::Device, unsigned*), nvml::Device device) {
  unsigned value = 0;
  if (function == nullptr || function(device, &value) != nvml::kSuccess) return 0;
  return static_cast<int>(std::min(value, 1024u));
}

// An idle card lowers its generation, never its width: so the greatest generation that card and
// slot can do together (that is NVML's "max"), and the width of now.
void ReadPcie(const NvmlApi& api, Card& card, std::vector<std::string>& notes) {
  DeviceInfo& gpu = card.info;
  gpu.pcie_generation = ReadNumber(api.MaxPcieGeneration, card.handle);
  if (gpu.pcie_generation == 0) {
    gpu.pcie_generation = ReadNumber(api.CurrentPcieGeneration, card.handle);
  }
  gpu.pcie_max_width = ReadNumber(api.MaxPcieWidth, card.handle);
  gpu.pcie_width = ReadNumber(api.CurrentPcieWidth, card.handle);
  if (gpu.pcie_width == 0) gpu.pcie_width = gpu.pcie_max_width;
  if (gpu.pcie_width < gpu.pcie_max_width) {
    notes.push_back(absl::StrCat(gpu.name, " at ", gpu.pci_bus_id, " runs on ", gpu.pcie_width,
                                 " of its ", gpu.pcie_max_width, " PCIe lanes"));
  }
}

void ReadNvlinks(const NvmlApi& api, const GpuFacts* facts, Card& card) {
  if (api.NvLinkState == nullptr || api.NvLinkRemotePci == nullptr) return;
  for (unsigned link = 0; link < nvml::kMaxLinks; ++link) {
    int active = 0;
    if (api.NvLinkState(card.handle, link, &active) != nvml::kSuccess || active != 1) continue;
    unsigned version = 0;
    if (api.NvLinkVersion != nullptr) api.NvLinkVersion(card.handle, link, &version);
    double rate = NvlinkBandwidthPerLink(version, card.info.compute_capability);
    if (facts != nullptr && facts->nvlink_links > 0) {
      rate = facts->nvlink_bandwidth_bytes_per_s / facts->nvlink_links;
    }
    int type = nvml::kRemoteGpu;
    if (api.NvLinkRemoteType != nullptr) api.NvLinkRemoteType(card.handle, link, &type);
    nvml::PciInfo remote = {};
    if (type == nvml::kRemoteSwitch) {
      card.to_switch += rate;
    } else if (api.NvLinkRemotePci(card.handle, link, &remote) == nvml::kSuccess) {
      card.peers[PciId(remote)] += rate;
    }
  }
}

void NoteMig(const NvmlApi& api, const Card& card, std::vector<std::string>& notes) {
  unsigned current = 0, pending = 0;
  if (api.MigMode == nullptr || api.MigMode(card.handle, &current, &pending) != nvml::kSuccess) {
    return;
  }
  if (current != 1) return;
  notes.push_back(absl::StrCat(card.info.name, " at ", card.info.pci_bus_id,
                               " is in MIG mode: the numbers are those of the whole card"));
}

// False, and a note, if NVML does not tell the essentials.
bool ReadCard(const NvmlApi& api, unsigned index, const GpuSource& source,
              const GpuCatalogue& catalogue, Card& card, std::vector<std::string>& notes) {
  std::array<char, 96> name = {}, uuid = {};
  nvml::PciInfo pci = {};
  nvml::Return code = api.DeviceHandle(index, &card.handle);
  if (code == nvml::kSuccess) code = api.Name(card.handle, name.data(), name.size() - 1);
  if (code == nvml::kSuccess) code = api.Uuid(card.handle, uuid.data(), uuid.size() - 1);
  if (code == nvml::kSuccess) code = api.PciInfo(card.handle, &pci);
  if (code != nvml::kSuccess) {
    notes.push_back(absl::StrCat("GPU ", index, " is left out: ", api.Describe(code)));
    return false;
  }
  DeviceInfo& gpu = card.info;
  gpu.kind = DeviceKind::kGpu;
  gpu.name = name.data();
  gpu.uuid = uuid.data();
  gpu.pci_bus_id = PciId(pci);
  if (!ReadMemory(api, card)) {
    notes.push_back(
        absl::StrCat(gpu.name, ": NVML does not tell its memory (shared with the CPU?)"));
  }
  int major = 0, minor = 0;
  if (api.ComputeCapability(card.handle, &major, &minor) == nvml::kSuccess) {
    gpu.compute_capability = absl::StrCat(major, ".", minor);
  }
  const std::string node = ReadPseudoFile(
      absl::StrCat(source.sysfs_root, "/sys/bus/pci/devices/", gpu.pci_bus_id, "/numa_node"));
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(node), &gpu.numa_node)) gpu.numa_node = -1;
  const GpuFacts* facts = catalogue.Find(gpu.name, gpu.memory_bytes);
  if (facts != nullptr) {
    gpu.memory_bandwidth_bytes_per_s = facts->memory_bandwidth_bytes_per_s;
  } else {
    notes.push_back(
        absl::StrCat("the memory bandwidth of ", gpu.name, " is unknown: it is not in gpus.yaml"));
  }
  ReadPcie(api, card, notes);
  ReadNvlinks(api, facts, card);
  NoteMig(api, card, notes);
  return true;
}

// All cards that NVSwitches join reach each other at the rate of the narrower one.
std::vector<Link> JoinNvlinks(const std::vector<Card>& cards) {
  std::vector<Link> links;
  for (size_t i = 0; i < cards.size(); ++i) {
    for (size_t j = i + 1; j < cards.size(); ++j) {
      double rate = std::min(cards[i].to_switch, cards[j].to_switch);
      const auto peer = cards[i].peers.find(cards[j].info.pci_bus_id);
      if (peer != cards[i].peers.end()) rate += peer->second;
      if (rate == 0) continue;
      links.push_back({.a = static_cast<int>(i),
                       .b = static_cast<int>(j),
                       .kind = LinkKind::kNvlink,
                       .bandwidth_bytes_per_s = rate});
    }
  }
  return links;
}

// CUDA numbers the fastest card first unless told to use PCI order; with unlike cards its numbers
// may then differ from ours.
void NoteOrder(const std::vector<Card>& cards, const GpuSource& source,
               std::vector<std::string>& notes) {
  const bool unlike = std::any_of(cards.begin(), cards.end(), [&](const Card& card) {
    return card.info.name != cards[0].info.name;
  });
  if (!unlike || source.cuda_device_order.value_or("") == "PCI_BUS_ID") return;
  notes.push_back(
      "GPUs are numbered by PCI bus as nvidia-smi does; CUDA numbers unlike cards by speed unless "
      "CUDA_DEVICE_ORDER=PCI_BUS_ID is set");
}

std::vector<Card> ReadCards(const NvmlApi& api, const GpuSource& source,
                            const GpuCatalogue& catalogue, std::vector<std::string>& notes) {
  unsigned count = 0;
  std::vector<Card> cards;
  const nvml::Return code = api.DeviceCount(&count);
  if (code != nvml::kSuccess) {
    notes.push_back(absl::StrCat("NVML does not list the GPUs: ", api.Describe(code)));
    return cards;
  }
  for (unsigned i = 0; i < std::min(count, kMaxGpus); ++i) {
    Card card;
    if (ReadCard(api, i, source, catalogue, card, notes)) cards.push_back(std::move(card));
  }
  if (cards.empty()) notes.push_back("the NVIDIA driver is there but shows no GPU");
  return cards;
}

// The index among `uuids` an entry names, -1 if none.
int FindEntry(absl::string_view entry, absl::Span<const std::string> uuids) {
  int index;
  if (absl::SimpleAtoi(entry, &index)) {
    return index >= 0 && index < static_cast<int>(uuids.size()) ? index : -1;
  }
  // A unique beginning of a UUID is enough for CUDA.
  int found = -1;
  if (!absl::StartsWith(entry, "GPU-")) return -1;
  for (size_t i = 0; i < uuids.size(); ++i) {
    if (!absl::StartsWith(uuids[i], entry)) continue;
    if (found >= 0) return -1;
    found = static_cast<int>(i);
  }
  return found;
}

}  // namespace

// GB/s per link and direction: NVLink 1: 20, 2 and 3: 25, 4: 25, 5: 50; the bridged cards of
// compute capability 8.6 run NVLink 3 at 14.0625 (vendor specifications). `version` is NVML's
// nvmlNvlinkVersion_t: 1 = 1.0, 2 = 2.0, 3 = 2.2, 4 = 3.0, 5 = 3.1, 6 = 4.0, 7 = 5.0.
double NvlinkBandwidthPerLink(unsigned version, absl::string_view compute_capability) {
  if (compute_capability == "8.6") return 14.0625e9;
  if (version == 1) return 20e9;
  if (version >= 7) return 50e9;
  return 25e9;
}

std::vector<int> SelectVisible(absl::string_view value, absl::Span<const std::string> uuids,
                               std::vector<std::string>& notes) {
  std::vector<int> selected;
  std::set<int> seen;
  for (absl::string_view part : absl::StrSplit(value, ',')) {
    const absl::string_view entry = absl::StripAsciiWhitespace(part);
    const int index = FindEntry(entry, uuids);
    if (index < 0) {
      if (!entry.empty() && entry != "-1") {
        notes.push_back(
            absl::StrCat("CUDA_VISIBLE_DEVICES: \"", entry, "\" is none of the ", uuids.size(),
                         " GPUs; it and all behind it are not used",
                         absl::StartsWith(entry, "MIG-") ? " (MIG is not supported)" : ""));
      }
      break;
    }
    if (!seen.insert(index).second) {
      notes.push_back("CUDA_VISIBLE_DEVICES names a GPU twice: CUDA then shows none");
      return {};
    }
    selected.push_back(index);
  }
  return selected;
}

DetectedGpus DetectGpus(const GpuSource& source, const GpuCatalogue& catalogue) {
  DetectedGpus detected;
  const absl::StatusOr<NvmlApi> api = LoadNvml(source.nvml_library);
  if (!api.ok()) {
    const bool absent = absl::IsNotFound(api.status());
    detected.notes.push_back(absl::StrCat(absent ? "no NVIDIA driver, so no GPUs: " : "no GPUs: ",
                                          absl::string_view(api.status().message())));
    return detected;
  }
  std::vector<Card> cards = ReadCards(*api, source, catalogue, detected.notes);
  if (source.cuda_visible_devices.has_value()) {
    std::vector<std::string> uuids;
    for (const Card& card : cards) uuids.push_back(card.info.uuid);
    std::vector<Card> visible;
    for (int index : SelectVisible(*source.cuda_visible_devices, uuids, detected.notes)) {
      visible.push_back(cards[index]);
    }
    if (visible.size() < cards.size()) {
      detected.notes.push_back(absl::StrCat("CUDA_VISIBLE_DEVICES shows ", visible.size(), " of ",
                                            cards.size(), " GPUs"));
    }
    cards = std::move(visible);
  }
  if (!cards.empty()) NoteOrder(cards, source, detected.notes);
  for (size_t i = 0; i < cards.size(); ++i) {
    cards[i].info.id = absl::StrCat("cuda:", i);
    detected.gpus.push_back(cards[i].info);
  }
  detected.nvlinks = JoinNvlinks(cards);
  return detected;
}

}  // namespace tprun
