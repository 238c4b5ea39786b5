#include <cmath>
#include <vector>

#include "base/status_macros.h"
#include "engine/runtime/engine.h"

// The part of Engine that turns regions of memory into the blocks' pointers.

namespace tprun {

const Region* Engine::FindRegion(RegionUse use, int layer) const {
  for (const Region& region : layout_.regions) {
    if (region.use == use && region.layer == layer) return &region;
  }
  return nullptr;
}

void Engine::BindWorkspace() {
  const auto at = [&](RegionUse use) -> void* {
    const Region* region = FindRegion(use, -1);
    return region == nullptr ? nullptr : Address(*region);
  };
  const auto floats = [&](RegionUse use) { return static_cast<float*>(at(use)); };
  workspace_.residual = floats(RegionUse::kResidual);
  workspace_.normed = floats(RegionUse::kNormed);
  workspace_.block_output = floats(RegionUse::kBlockOutput);
  workspace_.qkv = floats(RegionUse::kQkv);
  workspace_.attention = floats(RegionUse::kAttention);
  workspace_.gate = floats(RegionUse::kGate);
  workspace_.up = floats(RegionUse::kUp);
  workspace_.logits_shard = floats(RegionUse::kLogitsShard);
  workspace_.logits = floats(RegionUse::kLogits);
  workspace_.best_shard = static_cast<BestLogit*>(at(RegionUse::kBestShard));
  workspace_.best = static_cast<BestLogit*>(at(RegionUse::kBest));
  workspace_.step_inputs = static_cast<int32_t*>(at(RegionUse::kStepInputs));
}

absl::Status Engine::MakeRopeFrequencies() {
  for (const Region& region : layout_.regions) {
    if (region.use != RegionUse::kRopeFrequencies) continue;
    const RopeSpec& rope = spec_.layers[region.layer].attention.rope;
    std::vector<float> frequencies(rope.dims / 2);
    InverseFrequencies(rope, rope.factors.empty() ? nullptr : rope.factors.data(),
                       frequencies.data());
    RETURN_IF_ERROR(parts_.device->CopyFromHost(Address(region), frequencies.data(), region.bytes));
  }
  return absl::OkStatus();
}

WeightMatrix Engine::MatrixIn(const Region& region) const {
  const TensorSpec& tensor = spec_.tensors[region.tensor];
  // An empty share of a row-split matrix still has all output rows, each of no columns.
  const bool by_columns = tensor.split == SplitRule::kRow;
  const int64_t rows = by_columns ? tensor.shape[0] : region.shard.rows.size();
  const int64_t columns = by_columns ? region.shard.columns.size() : tensor.shape[1];
  return {Address(region), tensor.format, rows, columns};
}

WeightMatrix Engine::Matrix(int block, TensorRole role) const {
  for (const Region& region : layout_.regions) {
    if (region.use != RegionUse::kTensor) continue;
    const TensorSpec& tensor = spec_.tensors[region.tensor];
    if (tensor.block == block && tensor.role == role) return MatrixIn(region);
  }
  return {};
}

const float* Engine::Vector(int block, TensorRole role) const {
  for (const Region& region : layout_.regions) {
    if (region.use != RegionUse::kTensor) continue;
    const TensorSpec& tensor = spec_.tensors[region.tensor];
    if (tensor.block == block && tensor.role == role) {
      return static_cast<const float*>(Address(region));
    }
  }
  return nullptr;
}

void Engine::BindBlocks() {
  attention_.resize(spec_.num_layers());
  mlp_.resize(spec_.num_layers());
  if (IndexInGroup(placements_[spec_.embed_block()], rank_) >= 0) BindEmbedding();
  for (int layer = 0; layer < spec_.num_layers(); ++layer) {
    if (IndexInGroup(placements_[spec_.attention_block(layer)], rank_) >= 0) BindAttention(layer);
    if (IndexInGroup(placements_[spec_.mlp_block(layer)], rank_) >= 0) BindMlp(layer);
  }
  if (IndexInGroup(placements_[spec_.head_block()], rank_) >= 0) BindHead();
}

void Engine::BindEmbedding() {
  const int block = spec_.embed_block();
  const Placement& placement = placements_[block];
  embedding_.table = Matrix(block, TensorRole::kEmbedding);
  embedding_.first_row =
      UnitRange(placement, IndexInGroup(placement, rank_)).begin * UnitsOf(spec_, block).elements;
  embedding_.scale = spec_.embedding_scale;
}

void Engine::BindAttention(int layer) {
  const int block = spec_.attention_block(layer);
  const Placement& placement = placements_[block];
  const int index = IndexInGroup(placement, rank_);
  const AttentionSpec& from = spec_.layers[layer].attention;
  const Range heads = QueryHeads(spec_, block, placement, index);
  const Range kv_heads = KvHeads(spec_, block, placement, index);
  AttentionBlock& to = attention_[layer];
  to.norm = {Vector(block, TensorRole::kNorm), spec_.layers[layer].norm};
  to.post_norm_weight = Vector(block, TensorRole::kPostNorm);
  to.query = Matrix(block, TensorRole::kQuery);
  to.key = Matrix(block, TensorRole::kKey);
  to.value = Matrix(block, TensorRole::kValue);
  to.out = Matrix(block, TensorRole::kAttentionOut);
  to.query_bias = Vector(block, TensorRole::kQueryBias);
  to.key_bias = Vector(block, TensorRole::kKeyBias);
  to.value_bias = Vector(block, TensorRole::kValueBias);
  to.out_bias = Vector(block, TensorRole::kAttentionOutBias);
  to.query_norm = Vector(block, TensorRole::kQueryNorm);
  to.key_norm = Vector(block, TensorRole::kKeyNorm);
  to.rope = from.rope;
  to.inverse_frequencies =
      static_cast<const float*>(Address(*FindRegion(RegionUse::kRopeFrequencies, layer)));
  to.head_dim = from.head_dim;
  to.kv_heads = static_cast<int>(kv_heads.size());
  to.shape = {.query_heads = static_cast<int>(heads.size()),
              .first_query_head = static_cast<int>(heads.begin),
              .first_kv_head = static_cast<int>(kv_heads.begin),
              .queries_per_kv_head = from.heads / from.kv_heads,
              .scale = from.scale,
              .logit_softcap = from.logit_softcap,
              .window = from.window};
  const Region& keys = *FindRegion(RegionUse::kKeys, layer);
  const Region& values = *FindRegion(RegionUse::kValues, layer);
  to.cache = {.keys = Address(keys),
              .values = Address(values),
              .dtype = options_.kv_type,
              .capacity = options_.context,
              .kv_heads = to.kv_heads,
              .head_dim = from.head_dim,
              .sequence_stride = keys.bytes / options_.batch,
              .sequences = options_.batch};
}

void Engine::BindMlp(int layer) {
  const int block = spec_.mlp_block(layer);
  MlpBlock& to = mlp_[layer];
  to.norm = {Vector(block, TensorRole::kNorm), spec_.layers[layer].norm};
  to.post_norm_weight = Vector(block, TensorRole::kPostNorm);
  to.activation = spec_.layers[layer].mlp.activation;
  to.gate = Matrix(block, TensorRole::kGate);
  to.up = Matrix(block, TensorRole::kUp);
  to.down = Matrix(block, TensorRole::kDown);
}

void Engine::BindHead() {
  const int block = spec_.head_block();
  head_.norm = {Vector(block, TensorRole::kNorm), spec_.final_norm};
  head_.weight = Matrix(block, TensorRole::kHead);
  head_.logit_softcap = spec_.final_logit_softcap;
  const Placement& placement = placements_[block];
  const int64_t unit_rows = UnitsOf(spec_, block).elements;
  head_.first_row = UnitRange(placement, IndexInGroup(placement, rank_)).begin * unit_rows;
  for (int64_t share : placement.shares) head_.row_counts.push_back(share * unit_rows);
}

}  // namespace tprun
