#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// The figures behind paths and exchanges where nobody measured; every constant with its source in
// path_model.cc.

// The part of a link's nominal bandwidth that a large copy reaches.
double LinkEfficiency(LinkKind kind, bool through_host);

// Seconds until a small message of one rank is seen by the other: kernel start, store, flag.
double MessageLatency(LinkKind kind, bool through_host);

// One step of NCCL's low-latency (small) and its plain protocol (large messages).
struct StepLatency {
  double small = 0;
  double large = 0;
};
StepLatency RingStep(LinkKind kind, bool through_host);
double TreeStep(LinkKind kind, bool through_host);

// Before the first step of a collective.
inline constexpr double kRingStart = 6.6e-6;
inline constexpr double kRingStartLarge = 8.4e-6;
inline constexpr double kTreeStart = 6.8e-6;

// What the link between two sockets carries per direction, by the name of the CPU.
double SocketBandwidth(absl::string_view cpu_name);

// Whether two NUMA nodes of a host are known to lie in one package (SNC, NPS), so that no link
// between sockets is on the way.
bool InOnePackage(const Host& host, int node_a, int node_b);

// Whether NCCL uses peer access at this distance by default; `why` says why not.
bool UsesPeerAccess(LinkKind kind, absl::string_view cpu_name, int gpus, std::string& why);

// Of one NVLink per direction by compute capability ("9.0"), nominal; 0: has none.
double NvlinkBandwidthOf(absl::string_view compute_capability);

// How two PCIe devices of one host meet, by their NUMA nodes and bridges; kPcie when these are not
// known.
LinkKind PcieDistance(const DeviceInfo& a, const DeviceInfo& b);

}  // namespace tprun
