#pragma once

#include <optional>
#include <string>
#include <vector>

#include "topology/topology.h"

namespace tprun {

// How a source lists a PCIe switch: hwloc and sysfs have a bridge for each port, upstream and
// downstream; NCCL has one for the whole switch.
enum class SwitchListing { kEveryPort, kOnce };

// kPix or kPxb for two cards that have a bridge above them in common, nullopt otherwise. `a` and
// `b` are the bridges of each, from the host bridge down (DeviceInfo::pci_bridges).
std::optional<LinkKind> PathByBridges(const std::vector<std::string>& a,
                                      const std::vector<std::string>& b, SwitchListing listing);

}  // namespace tprun
