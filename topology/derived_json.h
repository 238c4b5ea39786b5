#pragma once

#include "base/json.h"
#include "topology/topology.h"

namespace tprun {

// What follows from a topology, for scripts: {"paths": [...], "exchanges": [...]}. Paths between
// every two devices of a host (of hosts that are alike the first; of hosts with more than 64
// devices none) with kind, bottleneck, what a large copy is expected to reach, latency, peer access
// and the reason where there is none. Exchanges: islands of NVLink, hosts and everything, with the
// order of the ring and the seconds of an all-reduce. ParseTopologyJson does not read it.
Json DerivedJson(const Topology& topology);

}  // namespace tprun
