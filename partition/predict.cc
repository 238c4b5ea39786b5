#include "partition/predict.h"

#include <algorithm>
#include <set>

namespace tprun {
namespace {

// An all-gather moves half of what a ring all-reduce does.
constexpr double kGatherPart = 0.5;

// Of all ranks outside its groups a rank exchanges with the stage before and the one after.
constexpr int kNeighbours = 2;

}  // namespace

SpeedModel::SpeedModel(const ModelSpec& spec, const std::vector<Placement>& placements,
                       const EngineOptions& options, const Coefficients& coefficients,
                       const std::vector<DeviceRates>& rates, const Exchanges& exchanges)
    : spec_(spec),
      placements_(placements),
      options_(options),
      coefficients_(coefficients),
      rates_(rates),
      exchanges_(exchanges) {}

double SpeedModel::Block(int block, const Pass& pass) const {
  const Placement& placement = placements_[block];
  double slowest = 0;
  int steps = 1;
  for (size_t i = 0; i < placement.ranks.size(); ++i) {
    const BlockWork work = WorkOf(spec_, block, placement, static_cast<int>(i), options_, pass);
    steps = std::max(steps, work.steps);
    slowest = std::max(slowest, BlockSeconds(coefficients_, rates_[placement.ranks[i]], work,
                                             KvTypeName(options_)));
  }
  const int64_t row = spec_.dim * int64_t{sizeof(float)};
  const int64_t ends = std::min(pass.tokens, pass.sequences);
  if (spec_.blocks[block].kind != BlockKind::kHead) {
    return slowest + steps * exchanges_.AllReduce(placement.ranks, pass.tokens * row);
  }
  const int64_t logits = ends * spec_.vocab * int64_t{sizeof(float)};
  return slowest + kGatherPart * exchanges_.AllReduce(placement.ranks, logits) +
         HopSeconds(exchanges_, placement.ranks, {0}, logits);
}

double SpeedModel::PassSeconds(const Pass& pass) const {
  double seconds = coefficients_.step_seconds;
  const int64_t row = spec_.dim * int64_t{sizeof(float)};
  for (int block = 0; block < static_cast<int>(placements_.size()); ++block) {
    if (block > 0) {
      const bool head = spec_.blocks[block].kind == BlockKind::kHead;
      const int64_t rows = head ? std::min(pass.tokens, pass.sequences) : pass.tokens;
      seconds += HopSeconds(exchanges_, placements_[block - 1].ranks, placements_[block].ranks,
                            rows * row);
    }
    seconds += Block(block, pass);
  }
  return seconds;
}

double SpeedModel::StepSeconds(int64_t depth) const {
  return PassSeconds({options_.batch, options_.batch, depth});
}

double SpeedModel::PrefillSeconds(int64_t tokens) const {
  double seconds = 0;
  for (int64_t done = 0; done < tokens;) {
    const int64_t chunk = std::min(options_.prefill_chunk, tokens - done);
    seconds += PassSeconds({chunk, 1, done});
    done += chunk;
  }
  return seconds;
}

RankRole RoleOf(const std::vector<Placement>& placements, int rank,
                const std::vector<bool>& is_gpu) {
  std::set<int> together;
  std::set<int> world;
  RankRole role;
  for (const Placement& placement : placements) {
    const bool member = IndexInGroup(placement, rank) >= 0;
    int peers = 0;
    for (int other : placement.ranks) {
      if (!is_gpu[other]) continue;
      world.insert(other);
      if (!member) continue;
      together.insert(other);
      peers += other != rank;
    }
    role.group_peers = std::max(role.group_peers, peers);
  }
  if (world.size() > together.size()) role.hop_peers = kNeighbours;
  return role;
}

}  // namespace tprun
