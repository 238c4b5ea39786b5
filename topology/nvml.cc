#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "topology/detect_gpus.h"
#include "topology/detect_pci.h"
#include "topology/nvml_card.h"

namespace tprun {
namespace {

constexpr unsigned kMaxGpus = 256;

// CUDA numbers the fastest card first unless told to use PCI order, which the loader of the CUDA
// module does unless the user has chosen (comm/cuda_module.cc).
void NoteOrder(const std::vector<NvmlCard>& cards, const GpuSource& source,
               std::vector<std::string>& notes) {
  const bool unlike = std::any_of(cards.begin(), cards.end(), [&](const NvmlCard& card) {
    return card.info.name != cards[0].info.name;
  });
  if (!unlike || source.cuda_device_order.value_or("") == "PCI_BUS_ID") return;
  notes.push_back(
      source.cuda_device_order.has_value()
          ? "CUDA_DEVICE_ORDER is set, and not to PCI_BUS_ID: CUDA numbers these unlike cards by "
            "speed, and cuda:0 here may be another card there"
          : "GPUs are numbered by PCI bus as nvidia-smi does; other programs number unlike cards "
            "by "
            "speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set");
}

std::vector<NvmlCard> ReadCards(const NvmlApi& api, const GpuSource& source,
                                const GpuCatalogue& catalogue, std::vector<std::string>& notes) {
  unsigned count = 0;
  std::vector<NvmlCard> cards;
  const nvml::Return code = api.DeviceCount(&count);
  if (code != nvml::kSuccess) {
    notes.push_back(absl::StrCat("NVML does not list the GPUs: ", api.Describe(code)));
    return cards;
  }
  for (unsigned i = 0; i < std::min(count, kMaxGpus); ++i) {
    NvmlCard card;
    if (ReadNvmlCard(api, i, source.sysfs_root, catalogue, card, notes)) {
      cards.push_back(std::move(card));
    }
  }
  if (cards.empty()) notes.push_back("the NVIDIA driver is there but shows no GPU");
  return cards;
}

void ReadSoftware(const NvmlApi& api, DetectedGpus& detected) {
  const std::string driver = api.Text(api.DriverVersion);
  if (!driver.empty()) detected.software["driver"] = driver;
  const std::string nvml = api.Text(api.NvmlVersion);
  if (!nvml.empty()) detected.software["nvml"] = nvml;
  int cuda = 0;
  if (api.CudaVersion != nullptr && api.CudaVersion(&cuda) == nvml::kSuccess && cuda > 0) {
    detected.software["cuda"] = absl::StrCat(cuda / 1000, ".", cuda % 1000 / 10);
  }
  if (!api.missing.empty()) {
    detected.notes.push_back(absl::StrCat("this NVIDIA driver has no ",
                                          absl::StrJoin(api.missing, ", "),
                                          ": what these tell is unknown; a newer driver has them"));
  }
}

// The card when one of its MIG instances is used: its NVLinks are out of reach.
NvmlCard WithInstance(const NvmlCard& card, const DeviceInfo& instance) {
  NvmlCard part = card;
  part.info = instance;
  part.peers.clear();
  part.to_switch = {};
  part.info.nvlink_count = 0;
  return part;
}

// The cards that CUDA_VISIBLE_DEVICES selects, in its order; a MIG instance where it names one.
std::vector<NvmlCard> Visible(const std::vector<NvmlCard>& cards, const GpuSource& source,
                              std::vector<std::string>& notes) {
  if (!source.cuda_visible_devices.has_value()) return cards;
  std::vector<std::string> uuids, instance_uuids;
  std::vector<NvmlCard> all = cards;
  for (const NvmlCard& card : cards) {
    uuids.push_back(card.info.uuid);
    for (const DeviceInfo& instance : card.instances) {
      instance_uuids.push_back(instance.uuid);
      all.push_back(WithInstance(card, instance));
      all.back().instances.clear();
    }
  }
  std::vector<NvmlCard> visible;
  for (int index : SelectVisible(*source.cuda_visible_devices, uuids, instance_uuids, notes)) {
    visible.push_back(all[index]);
  }
  if (visible.size() < cards.size()) {
    notes.push_back(
        absl::StrCat("CUDA_VISIBLE_DEVICES shows ", visible.size(), " of ", cards.size(), " GPUs"));
  }
  return visible;
}

// Of a card in MIG mode CUDA gives a process the first instance, unless told which.
void UseFirstInstances(std::vector<NvmlCard>& cards, std::vector<std::string>& notes) {
  for (NvmlCard& card : cards) {
    if (card.instances.empty()) continue;
    notes.push_back(absl::StrCat(
        card.info.name, " at ", card.info.pci_bus_id, " is split into ", card.instances.size(),
        " MIG instances, of which CUDA gives a process one; shown is the first, ",
        card.instances[0].uuid, ": set CUDA_VISIBLE_DEVICES to the UUID of another to use that"));
    std::vector<MigInstance> all = card.info.mig_instances;
    card = WithInstance(card, DeviceInfo(card.instances[0]));
    card.info.mig_instances = std::move(all);
  }
}

// CUDA gives MIG instances no access to each other or to other GPUs.
void CutPeerAccess(const std::vector<NvmlCard>& cards, std::vector<Link>& links) {
  const auto is_instance = [&](int index) {
    const std::string& mig = cards[index].info.mig;
    return !mig.empty() && mig != "off" && mig != "on";
  };
  for (Link& link : links) {
    if (!is_instance(link.a) && !is_instance(link.b)) continue;
    link.peer_access = PeerAccess::kNo;
    link.peer_access_reason = "MIG instances cannot reach the memory of other GPUs";
  }
}

// Why there is no driver, told by the cards themselves.
void NoteCardsWithoutDriver(const GpuSource& source, std::vector<std::string>& notes) {
  for (const PciFunction& card : ListPciFunctions(source.sysfs_root, 0x03)) {
    if (card.pci_id.rfind("10de:", 0) != 0) continue;
    notes.push_back(absl::StrCat(
        "an NVIDIA GPU (", card.pci_id, ") is at ", card.bus_id, ", ",
        card.driver.empty() ? "without a driver" : absl::StrCat("driven by ", card.driver),
        ": install or load the NVIDIA driver; in a container, start it with --gpus all"));
  }
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

DetectedGpus DetectGpus(const GpuSource& source, const GpuCatalogue& catalogue) {
  DetectedGpus detected;
  const absl::StatusOr<NvmlApi> api = LoadNvml(source.nvml_library);
  if (!api.ok()) {
    const bool absent = absl::IsNotFound(api.status());
    detected.notes.push_back(absl::StrCat(absent ? "no NVIDIA driver, so no GPUs: " : "no GPUs: ",
                                          absl::string_view(api.status().message())));
    NoteCardsWithoutDriver(source, detected.notes);
    return detected;
  }
  ReadSoftware(*api, detected);
  std::vector<NvmlCard> cards =
      Visible(ReadCards(*api, source, catalogue, detected.notes), source, detected.notes);
  UseFirstInstances(cards, detected.notes);
  if (!cards.empty()) NoteOrder(cards, source, detected.notes);
  detected.links = JoinNvmlCards(*api, cards);
  CutPeerAccess(cards, detected.links);
  for (size_t i = 0; i < cards.size(); ++i) {
    cards[i].info.id = absl::StrCat("cuda:", i);
    detected.gpus.push_back(cards[i].info);
    if (cards[i].c2c) detected.c2c.push_back(static_cast<int>(i));
  }
  return detected;
}

}  // namespace tprun
