#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// Where a PCI function sits and what its link can do, as sysfs tells. `root` is put in front of
// /sys in all calls (tests have their own).
struct PciFunction {
  std::string bus_id;                // "0000:65:00.0"
  std::string pci_id;                // vendor and device: "10de:2204"
  unsigned device_class = 0;         // 0x030200
  std::string driver;                // "nvidia", "" when none is bound
  std::vector<std::string> bridges;  // bus ids, from the host bridge down to the function
  std::string host_bridge;           // "0000:00": domain and bus of the root bus
  int numa_node = -1;
  std::string cpus;  // "0-15,32-47"
  int generation = 0;
  int max_generation = 0;  // of the card alone
  int width = 0;
  int max_width = 0;
};

// Absent functions give a PciFunction of which only bus_id is known.
PciFunction ReadPciFunction(const std::string& root, const std::string& bus_id);

// Functions whose class begins with `class_byte` (0x03: display), in order of their bus ids.
std::vector<PciFunction> ListPciFunctions(const std::string& root, unsigned class_byte);

// The PCIe generation of sysfs's "16.0 GT/s PCIe"; 0 if unknown.
int PcieGenerationOfSpeed(absl::string_view speed);

// Where a card sits, of a tree that sysfs has told.
struct PciPlace {
  std::string bus_id;
  std::vector<std::string> bridges;
  int numa_node = -1;
};

// How two cards of one host meet: kPix to kSystem, kPcie where that cannot be told (different root
// buses of which the NUMA nodes are unknown).
LinkKind PciDistance(const PciPlace& a, const PciPlace& b);

// Whether a bridge sends what its cards write to each other up to the host bridge instead of
// across: the Access Control Services of the PCI Express specification (extended capability
// 0x000d, bit 2 of its control register, P2P Request Redirect).
enum class PeerRedirect { kUnknown, kNo, kYes };  // unknown: only root reads that far
PeerRedirect ReadPeerRedirect(const std::string& root, const std::string& bus_id);

// What a process sees of the IOMMU: whether there is one, and whether it translates the addresses
// of devices ("identity" groups it passes through).
enum class Iommu { kUnknown, kOff, kPassThrough, kTranslating };
Iommu ReadIommu(const std::string& root);

}  // namespace tprun
