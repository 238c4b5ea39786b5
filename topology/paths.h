#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "topology/topology.h"

namespace tprun {

// What the way between two devices costs.
struct Path {
  LinkKind kind = LinkKind::kSystem;  // of the slowest part
  double bandwidth_bytes_per_s = 0;   // bottleneck, per direction; 0: no way is known
  double latency_s = 0;               // of a small message between ranks, measured or modelled
  PeerAccess peer_access = PeerAccess::kUnknown;
  std::string why;  // why peer access is not possible, or what the figures rest on
};

// The best way between two devices, over hosts and fabrics too.
Path PathBetween(const Topology& topology, DeviceRef a, DeviceRef b);

// Sets of GPUs of which every two are joined by NVLink, largest first; GPUs without are left out.
std::vector<std::vector<DeviceRef>> NvlinkIslands(const Topology& topology);

// `group` in the order of the ring whose slowest hop is fastest (ties: least sum of latencies);
// exact up to 9 members, a heuristic above.
std::vector<DeviceRef> BestRing(const Topology& topology, const std::vector<DeviceRef>& group);

// What an exchange among `group` (in ring order) is expected to take.
struct ExchangeCost {
  double seconds = 0;
  double bottleneck_bytes_per_s = 0;
  std::string algorithm;  // "one-shot", "ring", "tree", "through the host"
};

// An all-reduce of `bytes` on every member: the best of one-shot (latency + (n-1) bytes over the
// slowest path), ring (2(n-1) steps of bytes/n) and tree; groups over hosts reduce inside hosts
// first. 0 for one member.
ExchangeCost AllReduceCost(const Topology& topology, const std::vector<DeviceRef>& group,
                           int64_t bytes);

}  // namespace tprun
