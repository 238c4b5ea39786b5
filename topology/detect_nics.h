#pragma once

#include <string>
#include <vector>

#include "topology/topology.h"

namespace tprun {

// The network cards of this machine as sysfs tells: RDMA devices ("mlx5_0") with the rate of all
// their ports, and the Ethernet cards that are no RDMA device too. Virtual interfaces (bridges,
// docker, lo) are left out. The rate is unknown while a port is down, and in virtual machines.
std::vector<Nic> DetectNics(const std::string& root = "");

}  // namespace tprun
