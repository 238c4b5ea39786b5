#pragma once

#include <string>

#include "topology/topology.h"

namespace tprun {

// Table of the devices that somebody measured: copies, matrix products, ranks. "" if there are
// none.
std::string MeasuredText(const Topology& topology, bool color);

}  // namespace tprun
