#pragma once

#include <string>

#include "topology/text_view.h"

namespace tprun {

// The parts of TopologyText that tell how devices are joined; each ends with a line end, or is "".

// A matrix as of `nvidia-smi topo -m`, with GB/s, for each host of at most eight GPUs; rows of
// equal links for the others.
std::string LinksText(const TextView& view);

// Network cards, then the networks that join hosts.
std::string NicsText(const TextView& view);
std::string NetworkText(const TextView& view);

// Islands of NVLink and the all-reduce to expect, of little and of much data.
std::string ExchangeText(const TextView& view);

// Narrow slots, absent peer access, memory that others hold: one line each.
std::string ProblemsText(const TextView& view);

}  // namespace tprun
