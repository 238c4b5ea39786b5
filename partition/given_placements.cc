#include <algorithm>
#include <cmath>
#include <numeric>

#include "partition/planner.h"

// Placements in proportions that somebody gives.

namespace tprun {
namespace {

// The least replication that gives every rank some query heads, or 1 where there is none.
int KvReplication(const ModelSpec& spec, int layer, int ranks) {
  const int block = spec.attention_block(layer);
  const AttentionSpec& attention = spec.layers[layer].attention;
  const int group = attention.heads / attention.kv_heads;
  for (int replication = 1; replication <= group; ++replication) {
    const bool enough = int64_t{attention.kv_heads} * replication >= ranks;
    if (enough && CanReplicateKv(spec, block, replication)) return replication;
  }
  return 1;
}

}  // namespace

std::vector<Placement> TensorPlacements(const ModelSpec& spec,
                                        const std::vector<double>& proportions) {
  const int world = static_cast<int>(proportions.size());
  std::vector<int> all(world);
  std::iota(all.begin(), all.end(), 0);
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const Block& what = spec.blocks[block];
    Placement placement = {.ranks = all};
    if (what.kind == BlockKind::kAttention) {
      placement.kv_replication = KvReplication(spec, what.layer, world);
    }
    placement.shares = Apportion(UnitsOf(spec, block, placement.kv_replication).count, proportions);
    placements.push_back(std::move(placement));
  }
  return placements;
}

std::vector<Placement> LayerPlacements(const ModelSpec& spec,
                                       const std::vector<double>& proportions) {
  const std::vector<int64_t> layers = Apportion(spec.num_layers(), proportions);
  std::vector<int> rank_of_layer;
  for (size_t rank = 0; rank < layers.size(); ++rank) {
    rank_of_layer.insert(rank_of_layer.end(), layers[rank], static_cast<int>(rank));
  }
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const BlockKind kind = spec.blocks[block].kind;
    const int rank = kind == BlockKind::kEmbed  ? rank_of_layer.front()
                     : kind == BlockKind::kHead ? rank_of_layer.back()
                                                : rank_of_layer[spec.blocks[block].layer];
    placements.push_back({.ranks = {rank}, .shares = {UnitsOf(spec, block).count}});
  }
  return placements;
}

std::vector<int64_t> Apportion(int64_t total, const std::vector<double>& given) {
  // Scaled by a power of two, which is exact, so that no sum or product overflows.
  std::vector<double> proportions = given;
  int exponent = 0;
  std::frexp(*std::max_element(given.begin(), given.end()), &exponent);
  for (double& proportion : proportions) proportion = std::ldexp(proportion, -exponent);
  const double sum = std::accumulate(proportions.begin(), proportions.end(), 0.0);
  std::vector<int64_t> result;
  std::vector<std::pair<double, int>> remainders;  // negated, so that sorting puts large ones first
  for (size_t i = 0; i < proportions.size(); ++i) {
    const double exact = static_cast<double>(total) * proportions[i] / sum;
    result.push_back(static_cast<int64_t>(exact));
    remainders.emplace_back(-(exact - static_cast<double>(result.back())), static_cast<int>(i));
  }
  std::sort(remainders.begin(), remainders.end());
  int64_t left = total - std::accumulate(result.begin(), result.end(), int64_t{0});
  for (size_t i = 0; left > 0; i = (i + 1) % remainders.size()) {
    if (proportions[remainders[i].second] <= 0) continue;
    ++result[remainders[i].second];
    --left;
  }
  return result;
}

}  // namespace tprun
