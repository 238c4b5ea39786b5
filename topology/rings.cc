// Islands of NVLink and the order of a ring: small searches over a matrix of paths.
#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "topology/paths.h"

namespace tprun {
namespace {

using Matrix = std::vector<std::vector<double>>;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

// The largest set of nodes that are all joined, by Bron and Kerbosch's search. Graphs of NVLink are
// cliques or nearly so; `steps` bounds what a strange file can cost, then the best found counts.
class CliqueSearch {
 public:
  explicit CliqueSearch(const std::vector<std::vector<bool>>& joined) : joined_(joined) {}

  std::vector<int> Largest(std::vector<int> candidates) {
    best_.clear();
    steps_ = 200000;
    std::vector<int> chosen;
    Extend(chosen, candidates);
    return best_;
  }

 private:
  void Extend(std::vector<int>& chosen, const std::vector<int>& candidates) {
    if (chosen.size() > best_.size()) best_ = chosen;
    for (size_t i = 0; i < candidates.size() && --steps_ > 0; ++i) {
      if (chosen.size() + candidates.size() - i <= best_.size()) return;
      std::vector<int> rest;
      for (size_t j = i + 1; j < candidates.size(); ++j) {
        if (joined_[candidates[i]][candidates[j]]) rest.push_back(candidates[j]);
      }
      chosen.push_back(candidates[i]);
      Extend(chosen, rest);
      chosen.pop_back();
    }
  }

  const std::vector<std::vector<bool>>& joined_;
  std::vector<int> best_;
  int64_t steps_ = 0;
};

using Pairs = std::vector<std::pair<int, int>>;  // of device indices

// Cliques of at least two, largest first, of the GPUs of one host (in ascending order), of which
// NVLink joins `pairs`.
std::vector<std::vector<int>> Cliques(const std::vector<int>& gpus, const Pairs& pairs) {
  std::vector<std::vector<bool>> joined(gpus.size(), std::vector<bool>(gpus.size()));
  const auto place = [&](int gpu) {
    return std::lower_bound(gpus.begin(), gpus.end(), gpu) - gpus.begin();
  };
  for (const auto& [a, b] : pairs) joined[place(a)][place(b)] = joined[place(b)][place(a)] = true;
  std::vector<int> left(gpus.size());
  std::iota(left.begin(), left.end(), 0);
  std::vector<std::vector<int>> cliques;
  while (true) {
    std::vector<int> clique = CliqueSearch(joined).Largest(left);
    if (clique.size() < 2) return cliques;
    std::vector<int> rest;
    std::set_difference(left.begin(), left.end(), clique.begin(), clique.end(),
                        std::back_inserter(rest));
    left = std::move(rest);
    for (int& node : clique) node = gpus[node];
    cliques.push_back(std::move(clique));
  }
}

struct PathMatrix {
  Matrix rate;
  Matrix latency;
};

PathMatrix MeasurePaths(const PathFinder& finder, const std::vector<DeviceRef>& group) {
  const size_t count = group.size();
  PathMatrix paths = {Matrix(count, std::vector<double>(count)),
                      Matrix(count, std::vector<double>(count))};
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < count; ++j) {
      if (i == j) continue;
      const Path path = finder.Between(group[i], group[j]);
      paths.rate[i][j] = path.expected_bytes_per_s;
      paths.latency[i][j] = path.latency_s;
    }
  }
  return paths;
}

// What a ring costs: its slowest hop, then the sum of its latencies.
struct RingValue {
  double slowest = kInfinite;
  double latency = 0;
  bool operator<(const RingValue& other) const {  // worse
    if (slowest != other.slowest) return slowest < other.slowest;
    return latency > other.latency * (1 + 1e-12);
  }
};

RingValue ValueOf(const PathMatrix& paths, const std::vector<int>& order) {
  RingValue value;
  for (size_t i = 0; i < order.size(); ++i) {
    const int from = order[i];
    const int to = order[(i + 1) % order.size()];
    value.slowest = std::min(value.slowest, paths.rate[from][to]);
    value.latency += paths.latency[from][to];
  }
  return value;
}

// All orders that start with 0, cut where the part so far is no better than the best whole.
class ExactRing {
 public:
  explicit ExactRing(const PathMatrix& paths) : paths_(paths) {}

  std::vector<int> Search() {
    order_.resize(paths_.rate.size());
    std::iota(order_.begin(), order_.end(), 0);
    best_ = order_;
    best_value_ = ValueOf(paths_, order_);
    Extend(1, RingValue());
    return best_;
  }

 private:
  void Extend(size_t placed, RingValue so_far) {
    if (so_far.slowest < best_value_.slowest) return;
    if (so_far.slowest == best_value_.slowest && so_far.latency >= best_value_.latency) return;
    if (placed == order_.size()) {
      const RingValue value = ValueOf(paths_, order_);
      if (best_value_ < value) {
        best_value_ = value;
        best_ = order_;
      }
      return;
    }
    for (size_t i = placed; i < order_.size(); ++i) {
      std::swap(order_[placed], order_[i]);
      const int from = order_[placed - 1];
      const int to = order_[placed];
      Extend(placed + 1, {std::min(so_far.slowest, paths_.rate[from][to]),
                          so_far.latency + paths_.latency[from][to]});
      std::swap(order_[placed], order_[i]);
    }
  }

  const PathMatrix& paths_;
  std::vector<int> order_;
  std::vector<int> best_;
  RingValue best_value_;
};

// Always on to the nearest that is left.
std::vector<int> NearestFirst(const PathMatrix& paths) {
  const int count = static_cast<int>(paths.rate.size());
  std::vector<bool> used(count);
  std::vector<int> order = {0};
  used[0] = true;
  while (static_cast<int>(order.size()) < count) {
    int next = -1;
    RingValue best;
    for (int i = 0; i < count; ++i) {
      if (used[i]) continue;
      const RingValue value = {paths.rate[order.back()][i], paths.latency[order.back()][i]};
      if (next < 0 || best < value) {
        next = i;
        best = value;
      }
    }
    used[next] = true;
    order.push_back(next);
  }
  return order;
}

// Turns stretches of the ring round as long as that makes it better (2-opt).
void Improve(const PathMatrix& paths, std::vector<int>& order) {
  RingValue value = ValueOf(paths, order);
  for (int round = 0; round < 8; ++round) {
    bool better = false;
    for (size_t i = 1; i + 1 < order.size(); ++i) {
      for (size_t j = i + 1; j < order.size(); ++j) {
        std::reverse(order.begin() + i, order.begin() + j + 1);
        const RingValue turned = ValueOf(paths, order);
        if (value < turned) {
          value = turned;
          better = true;
        } else {
          std::reverse(order.begin() + i, order.begin() + j + 1);
        }
      }
    }
    if (!better) return;
  }
}

}  // namespace

std::vector<std::vector<DeviceRef>> NvlinkIslands(const Topology& topology) {
  constexpr size_t kMaxIsland = 1 << 20;  // no file may cost more memory
  std::vector<std::vector<int>> gpus(topology.hosts.size());
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.kind == DeviceKind::kGpu) gpus[device.host].push_back(static_cast<int>(i));
  }
  std::vector<bool> joined(topology.hosts.size());
  std::vector<std::vector<DeviceRef>> islands;
  for (const Fabric& fabric : topology.fabrics) {
    if (fabric.kind != LinkKind::kNvlink) continue;
    std::vector<DeviceRef> island;
    for (int host : fabric.hosts) {
      if (joined[host]) continue;
      joined[host] = true;
      for (int instance = 0; instance < topology.hosts[host].count; ++instance) {
        if (island.size() >= kMaxIsland) break;
        for (int gpu : gpus[host]) island.push_back({.device = gpu, .instance = instance});
      }
    }
    if (island.size() > 1) islands.push_back(std::move(island));
  }
  std::vector<Pairs> nvlinks(topology.hosts.size());
  std::set<std::pair<int, int>> refused;  // also where the pair is given twice
  for (const Link& link : topology.links) {
    if (link.kind == LinkKind::kNvlink && link.peer_access == PeerAccess::kNo) {
      refused.insert(std::minmax(link.a, link.b));
    }
  }
  for (const Link& link : topology.links) {
    const DeviceInfo& a = topology.devices[link.a];
    const DeviceInfo& b = topology.devices[link.b];
    const bool gpus_of_host =
        a.host == b.host && a.kind == DeviceKind::kGpu && b.kind == DeviceKind::kGpu;
    const bool carries = refused.count(std::minmax(link.a, link.b)) == 0;
    if (link.kind == LinkKind::kNvlink && carries && gpus_of_host) {
      nvlinks[a.host].emplace_back(link.a, link.b);
    }
  }
  for (size_t host = 0; host < gpus.size(); ++host) {
    if (joined[host] || nvlinks[host].empty()) continue;
    for (const std::vector<int>& clique : Cliques(gpus[host], nvlinks[host])) {
      std::vector<DeviceRef> island;
      for (int gpu : clique) island.push_back({.device = gpu});
      islands.push_back(std::move(island));
    }
  }
  std::stable_sort(islands.begin(), islands.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return islands;
}

std::vector<DeviceRef> BestRing(const Topology& topology, const std::vector<DeviceRef>& group) {
  return BestRing(PathFinder(topology), group);
}

std::vector<DeviceRef> BestRing(const PathFinder& finder, const std::vector<DeviceRef>& group) {
  constexpr size_t kExact = 9;
  constexpr size_t kSearched = 128;  // above, the given order is as good as any
  if (group.size() < 4 || group.size() > kSearched) return group;
  const PathMatrix paths = MeasurePaths(finder, group);
  std::vector<int> order;
  if (group.size() <= kExact) {
    order = ExactRing(paths).Search();
  } else {
    order.resize(group.size());
    std::iota(order.begin(), order.end(), 0);
    std::vector<int> other = NearestFirst(paths);
    Improve(paths, other);
    if (ValueOf(paths, order) < ValueOf(paths, other)) order = std::move(other);
  }
  std::vector<DeviceRef> ring;
  for (int place : order) ring.push_back(group[place]);
  return ring;
}

}  // namespace tprun
