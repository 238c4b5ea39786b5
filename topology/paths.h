#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "topology/topology.h"

namespace tprun {

// What the way between two devices costs.
struct Path {
  LinkKind kind = LinkKind::kSystem;  // of the slowest part
  double bandwidth_bytes_per_s = 0;   // bottleneck, nominal, per direction; 0: no way is known
  double expected_bytes_per_s = 0;    // what a large copy reaches: measured, else modelled
  double latency_s = 0;               // of a small message between ranks, measured or modelled
  bool through_host = false;          // staged in host memory, as peer access is not used
  PeerAccess peer_access = PeerAccess::kUnknown;
  std::string why;  // why peer access is not possible, or what the figures rest on
};

// Answers many questions about the ways of one topology, which must outlive it: links are looked
// up once. Safe to use from several threads.
class PathFinder {
 public:
  explicit PathFinder(const Topology& topology);

  // The best way between two devices, over hosts and fabrics too. A device with itself: its own
  // memory.
  Path Between(DeviceRef a, DeviceRef b) const;

  // Of the links that join two devices of one host, that of most bandwidth; nullptr: none.
  const Link* Direct(int a, int b) const;

  // The network both are on whose share for one path is widest; nullptr: none.
  const Fabric* CommonFabric(DeviceRef a, DeviceRef b) const;

  int gpus_of_host(int host) const { return gpus_of_host_[host]; }
  int cpu_of_host(int host) const { return cpu_of_host_[host]; }  // -1: not listed
  const Topology& topology() const { return topology_; }

 private:
  Path WithinHost(int a, int b) const;
  Path BetweenGpus(int a, int b) const;
  Path ToHostMemory(int gpu) const;
  Path AcrossHosts(DeviceRef a, DeviceRef b) const;

  const Topology& topology_;
  std::unordered_map<uint64_t, int> links_;  // best link of each pair
  std::vector<int> cpu_of_host_;
  std::vector<int> gpus_of_host_;
  std::vector<std::vector<int>> fabrics_of_host_;
};

// One question; PathFinder is for many.
Path PathBetween(const Topology& topology, DeviceRef a, DeviceRef b);

// Sets of GPUs of which every two are joined by NVLink, largest first; GPUs without are left out,
// no GPU is in two. Of equal hosts the first stands for all, unless NVLink joins the hosts.
std::vector<std::vector<DeviceRef>> NvlinkIslands(const Topology& topology);

// `group` in the order of the ring whose slowest hop is fastest (ties: least sum of latencies);
// exact up to 9 members, a heuristic above.
std::vector<DeviceRef> BestRing(const Topology& topology, const std::vector<DeviceRef>& group);
std::vector<DeviceRef> BestRing(const PathFinder& finder, const std::vector<DeviceRef>& group);

// What an exchange among `group` (in ring order) is expected to take.
struct ExchangeCost {
  double seconds = 0;
  double bottleneck_bytes_per_s = 0;  // of the slowest hop, shared parts divided; 0: no way known
  // "one-shot", "ring", "tree", with " through the host" where some pair has no peer access;
  // "hosts, then ring"; "none".
  std::string algorithm;
};

// An all-reduce of `bytes` on every member: the best of one-shot (latency + (n-1) bytes over the
// slowest path), ring (2(n-1) steps of bytes/n) and tree; groups over hosts reduce inside hosts
// first. Parts of PCIe switches and sockets that several hops use at once are shared; meshes of
// NVLink carry as many rings as a member has links. 0 for one member; infinite where two members
// have no way between them.
ExchangeCost AllReduceCost(const Topology& topology, const std::vector<DeviceRef>& group,
                           int64_t bytes);
ExchangeCost AllReduceCost(const PathFinder& finder, const std::vector<DeviceRef>& group,
                           int64_t bytes);

}  // namespace tprun
