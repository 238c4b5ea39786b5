#pragma once

#include "topology/topology.h"

namespace tprun {

// Joins the devices of each host that have no link yet: every GPU with its CPU by PCIe, and GPUs
// with each other at the rate of the slower PCIe link (kPcie, or kSystem when they are known to be
// in different NUMA nodes).
void AddHostLinks(Topology& topology);

// Joins the CPUs of every two hosts that have no link yet.
void AddNetworkLinks(Topology& topology, double bandwidth_bytes_per_s, double latency_s);

}  // namespace tprun
