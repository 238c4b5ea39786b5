#pragma once

#include <string>

#include "topology/topology.h"

namespace tprun {

// The parts of TopologyText that tell how devices are joined; each ends with a line end, or is "".

// A matrix as of `nvidia-smi topo -m`, with GB/s, for each host of at most eight GPUs; rows of
// equal links for the others.
std::string LinksText(const Topology& topology, bool color);

// Networks and NICs.
std::string NetworkText(const Topology& topology, bool color);

// Islands of NVLink and the all-reduce to expect, of little and of much data.
std::string ExchangeText(const Topology& topology, bool color);

// Narrow slots, absent peer access, memory that others hold: one line each.
std::string ProblemsText(const Topology& topology, bool color);

// "0-3,6" of {0, 1, 2, 3, 6}.
std::string Ranges(const std::vector<int>& sorted);

}  // namespace tprun
