#pragma once

#include <map>
#include <string>
#include <vector>

#include "topology/gpu_catalogue.h"
#include "topology/nvml_api.h"
#include "topology/topology.h"

namespace tprun {

// A card as NVML numbers it (PCI order), with its NVLink ends.
struct NvmlCard {
  struct Ends {
    int links = 0;
    double bandwidth_bytes_per_s = 0;
  };
  nvml::Device handle = nullptr;
  DeviceInfo info;
  std::map<std::string, Ends> peers;  // by PCI bus id of the other GPU
  Ends to_switch;                     // all links to NVSwitches
  bool c2c = false;                   // joined with its CPU by NVLink-C2C
  std::vector<DeviceInfo> instances;  // of MIG, when that is on
};

// What NVML and sysfs (`sysfs_root` in front of /sys) tell of a card, each fact with its source.
// False, and a note, if NVML does not tell the essentials; anything else it does not tell stays
// unknown.
bool ReadNvmlCard(const NvmlApi& api, unsigned index, const std::string& sysfs_root,
                  const GpuCatalogue& catalogue, NvmlCard& card, std::vector<std::string>& notes);

// What joins the cards, one link for every two: NVLink, else the PCIe way between them. Whether
// they reach each other's memory, and why not, is what the driver says of the pair.
std::vector<Link> JoinNvmlCards(const NvmlApi& api, const std::vector<NvmlCard>& cards);

// The sysfs spelling: "0000:65:00.0".
std::string PciBusId(const nvml::PciInfo& pci);

// nvmlGpuP2PStatus_t in words, "" for OK and for what is not known.
std::string PeerAccessReason(int status);

}  // namespace tprun
