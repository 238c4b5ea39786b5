#pragma once

#include <vector>

#include "topology/topology.h"

namespace tprun {

// The devices of each host, in the topology's order (the CPU first).
std::vector<std::vector<int>> DevicesByHost(const Topology& topology);

// Of each host the first one that is like it: the same memory, devices, links, NICs and networks;
// only names, UUIDs and processes may differ. Clusters are often listed host by host.
std::vector<int> AlikeHosts(const Topology& topology);

}  // namespace tprun
