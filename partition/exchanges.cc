#include "partition/exchanges.h"

#include <algorithm>

namespace tprun {
namespace {

// Through shared memory between two ranks on one socket: 5 us for 8 KiB with Open MPI 4.1,
// measured 2026-11; also taken where the topology knows no way between two devices.
constexpr double kSharedMemorySeconds = 5e-6;

// Bytes are written and read once each, and both share the memory with the other side.
constexpr double kSharedMemoryPasses = 4;

// Where no way is known: four lanes of PCIe 3, the least that a second card usually has.
constexpr double kUnknownBandwidth = 3.2e9;

}  // namespace

double HopSeconds(const Exchanges& exchanges, const std::vector<int>& from,
                  const std::vector<int>& to, int64_t bytes) {
  if (from == to) return 0;
  std::vector<double> busy(from.size(), 0);
  size_t next = 0;
  for (int receiver : to) {
    if (std::find(from.begin(), from.end(), receiver) != from.end()) continue;
    const size_t sender = next++ % from.size();
    busy[sender] += exchanges.Send(from[sender], receiver, bytes);
  }
  return *std::max_element(busy.begin(), busy.end());
}

TopologyExchanges::TopologyExchanges(const Topology& topology, std::vector<DeviceRef> devices,
                                     const Coefficients& coefficients)
    : topology_(topology),
      finder_(topology),
      devices_(std::move(devices)),
      coefficients_(coefficients) {
  paths_.resize(devices_.size());
  for (size_t a = 0; a < devices_.size(); ++a) {
    for (size_t b = 0; b < devices_.size(); ++b) {
      const bool same = devices_[a] == devices_[b];
      paths_[a].push_back(same ? Path{} : finder_.Between(devices_[a], devices_[b]));
      if (!same && paths_[a][b].bandwidth_bytes_per_s <= 0) incomplete_ = true;
    }
  }
}

double TopologyExchanges::SameDevice(int rank, int64_t bytes) const {
  const double bandwidth = MemoryBandwidth(topology_.devices[devices_[rank].device]);
  if (bandwidth <= 0) return kSharedMemorySeconds;
  return kSharedMemorySeconds + kSharedMemoryPasses * static_cast<double>(bytes) / bandwidth;
}

double TopologyExchanges::Send(int from, int to, int64_t bytes) const {
  if (from == to) return 0;
  double seconds = 0;
  if (devices_[from] == devices_[to]) {
    seconds = SameDevice(from, bytes);
  } else {
    const Path& path = paths_[from][to];
    const bool known = path.bandwidth_bytes_per_s > 0;
    seconds = known ? path.latency_s + static_cast<double>(bytes) / path.bandwidth_bytes_per_s
                    : kSharedMemorySeconds + static_cast<double>(bytes) / kUnknownBandwidth;
  }
  return seconds * coefficients_.exchange_factor + coefficients_.exchange_seconds;
}

double TopologyExchanges::AllReduce(const std::vector<int>& group, int64_t bytes) const {
  if (group.size() < 2) return 0;
  const auto [entry, added] = all_reduce_.try_emplace({group, bytes}, 0);
  if (!added) return entry->second;
  std::vector<DeviceRef> distinct;
  double shared = 0;  // ranks on one device add up there first
  bool known = true;
  for (int rank : group) {
    const auto same = std::find(distinct.begin(), distinct.end(), devices_[rank]);
    if (same != distinct.end()) shared = std::max(shared, SameDevice(rank, bytes));
    if (same == distinct.end()) distinct.push_back(devices_[rank]);
    for (int other : group) {
      known = known &&
              (devices_[rank] == devices_[other] || paths_[rank][other].bandwidth_bytes_per_s > 0);
    }
  }
  double seconds = shared;
  if (distinct.size() > 1 && known) {
    seconds += AllReduceCost(finder_, distinct, bytes).seconds;
  } else if (distinct.size() > 1) {
    seconds += kSharedMemorySeconds + 2 * static_cast<double>(bytes) / kUnknownBandwidth;
  }
  seconds = seconds * coefficients_.exchange_factor + coefficients_.exchange_seconds;
  return entry->second = seconds;
}

std::vector<int> TopologyExchanges::RingOrder(const std::vector<int>& group) const {
  std::vector<DeviceRef> refs;
  for (int rank : group) {
    if (std::find(refs.begin(), refs.end(), devices_[rank]) != refs.end()) return group;
    refs.push_back(devices_[rank]);
  }
  if (refs.size() < 3) return group;
  std::vector<int> order;
  for (const DeviceRef& ref : BestRing(finder_, refs)) {
    const auto at = std::find(refs.begin(), refs.end(), ref);
    order.push_back(group[at - refs.begin()]);
  }
  return order;
}

bool TopologyExchanges::Alike(int a, int b) const {
  if (devices_[a] == devices_[b]) return true;
  const auto same = [](const Path& x, const Path& y) {
    return x.kind == y.kind && x.bandwidth_bytes_per_s == y.bandwidth_bytes_per_s &&
           x.latency_s == y.latency_s && x.peer_access == y.peer_access;
  };
  const int count = static_cast<int>(devices_.size());
  for (int other = 0; other < count; ++other) {
    if (other == a || other == b) continue;
    if (!same(paths_[a][other], paths_[b][other]) || !same(paths_[other][a], paths_[other][b])) {
      return false;
    }
  }
  return true;
}

}  // namespace tprun
