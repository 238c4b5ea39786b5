#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "partition/cost_model.h"
#include "topology/paths.h"

namespace tprun {

// What exchanges between ranks cost, ranks being numbers that the implementation knows. Seconds.
class Exchanges {
 public:
  virtual ~Exchanges() = default;
  // Of `bytes` on every member; 0 for one member.
  virtual double AllReduce(const std::vector<int>& group, int64_t bytes) const = 0;
  virtual double Send(int from, int to, int64_t bytes) const = 0;
  // A group in the order in which its all-reduce is fastest.
  virtual std::vector<int> RingOrder(const std::vector<int>& group) const { return group; }
};

// `bytes` that all ranks of `from` hold, to those of `to` that do not: receivers are spread over
// the senders (Engine::Hop), each of which sends one after the other.
double HopSeconds(const Exchanges& exchanges, const std::vector<int>& from,
                  const std::vector<int>& to, int64_t bytes);

// Between ranks on the devices of a topology. Ranks on one device exchange through its memory.
// Remembers what it has worked out: not for several threads at once.
class TopologyExchanges : public Exchanges {
 public:
  // Both outlive it; rank i is on devices[i].
  TopologyExchanges(const Topology& topology, std::vector<DeviceRef> devices,
                    const Coefficients& coefficients);

  double AllReduce(const std::vector<int>& group, int64_t bytes) const override;
  double Send(int from, int to, int64_t bytes) const override;

  std::vector<int> RingOrder(const std::vector<int>& group) const override;
  // Both devices have the same way to every other rank's device.
  bool Alike(int a, int b) const;
  // No way is known between some two of the ranks.
  bool incomplete() const { return incomplete_; }

 private:
  double SameDevice(int rank, int64_t bytes) const;

  const Topology& topology_;
  PathFinder finder_;  // once for all questions: it looks at every link of the topology
  std::vector<DeviceRef> devices_;
  const Coefficients& coefficients_;
  std::vector<std::vector<Path>> paths_;  // [from][to]
  bool incomplete_ = false;
  mutable std::map<std::pair<std::vector<int>, int64_t>, double> all_reduce_;
};

}  // namespace tprun
