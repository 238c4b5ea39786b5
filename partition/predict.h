#pragma once

#include <cstdint>
#include <vector>

#include "partition/exchanges.h"
#include "partition/memory_model.h"

namespace tprun {

// What the cost model says of placements, however they came about.
class SpeedModel {
 public:
  // All arguments outlive it; rates and exchanges are by rank.
  SpeedModel(const ModelSpec& spec, const std::vector<Placement>& placements,
             const EngineOptions& options, const Coefficients& coefficients,
             const std::vector<DeviceRates>& rates, const Exchanges& exchanges);

  // Seconds of a pass through all blocks: each as long as its slowest rank, an all-reduce after it
  // where its group has several, a hop where the group changes; at last the logits on rank 0.
  double PassSeconds(const Pass& pass) const;

  // Seconds until all sequences have their next token, with `depth` positions in their caches.
  double StepSeconds(int64_t depth) const;

  // Seconds for a prompt of one sequence, in the chunks of the engine.
  double PrefillSeconds(int64_t tokens) const;

 private:
  double Block(int block, const Pass& pass) const;

  const ModelSpec& spec_;
  const std::vector<Placement>& placements_;
  const EngineOptions& options_;
  const Coefficients& coefficients_;
  const std::vector<DeviceRates>& rates_;
  const Exchanges& exchanges_;
};

// A rank's part in the exchanges that the placements ask for. Only GPUs count as peers, `is_gpu` by
// rank: with CPU ranks exchanges go through host memory.
RankRole RoleOf(const std::vector<Placement>& placements, int rank,
                const std::vector<bool>& is_gpu);

}  // namespace tprun
