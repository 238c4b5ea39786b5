#pragma once

#include "topology/topology.h"

namespace tprun {

// Tells NVLinks through NVSwitch from a pair's own, where the source does not: when the links of a
// GPU to all its peers are equal in number and together more than the card has (nvlink_count, or
// 18, the most of any model up to Blackwell, where that is not known), they are the same links.
void MarkSwitchedLinks(Topology& topology);

}  // namespace tprun
