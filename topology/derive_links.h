#pragma once

#include "topology/topology.h"

namespace tprun {

// Joins the devices of each host that have no link yet: every GPU with its CPU by PCIe, and GPUs
// with each other at the rate of the slower PCIe link, of the kind that their PCIe bridges and NUMA
// nodes tell (kPcie where these are not known).
void AddHostLinks(Topology& topology);

}  // namespace tprun
