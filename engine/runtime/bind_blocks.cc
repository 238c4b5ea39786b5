#include <algorithm>
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
  workspace_.block_output = shared_parts_ != nullptr ? shared_parts_->own()
                            : sum_buffer_ != nullptr ? sum_buffer_
                                                     : floats(RegionUse::kBlockOutput);
  workspace_.qkv = floats(RegionUse::kQkv);
  workspace_.attention = floats(RegionUse::kAttention);
  workspace_.gate = floats(RegionUse::kGate);
  workspace_.up = floats(RegionUse::kUp);
  workspace_.routing = floats(RegionUse::kRouting);
  workspace_.depth_hidden = floats(RegionUse::kDepthHidden);
  workspace_.logits_shard = floats(RegionUse::kLogitsShard);
  workspace_.logits = floats(RegionUse::kLogits);
  workspace_.best_shard = static_cast<BestLogit*>(at(RegionUse::kBestShard));
  workspace_.best = static_cast<BestLogit*>(at(RegionUse::kBest));
  workspace_.sampling = static_cast<SampleRequest*>(at(RegionUse::kSampling));
  workspace_.seen = static_cast<uint32_t*>(at(RegionUse::kSeen));
  workspace_.step_inputs = static_cast<int32_t*>(at(RegionUse::kStepInputs));
}

absl::Status Engine::MakeRopeFrequencies() {
  for (const Region& region : layout_.regions) {
    if (region.use != RegionUse::kRopeFrequencies) continue;
    const RopeSpec& rope = spec_.layers[region.layer].attention.rope;
    std::vector<float> frequencies(rope.dims / 2);
    const std::vector<float>& factors = FactorsFor(rope, options_.context);
    InverseFrequencies(rope, factors.empty() ? nullptr : factors.data(), frequencies.data());
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

std::vector<EmbeddingTable> Engine::Tables(int block, TensorRole role) const {
  std::vector<EmbeddingTable> tables;
  for (const Region& region : layout_.regions) {
    if (region.use != RegionUse::kTensor) continue;
    const TensorSpec& tensor = spec_.tensors[region.tensor];
    if (tensor.block != block || tensor.role != role) continue;
    tables.push_back({MatrixIn(region), region.shard.rows.begin});
  }
  return tables;
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
  embedding_.tables = Tables(spec_.embed_block(), TensorRole::kEmbedding);
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
              .window = from.window,
              .sinks = Vector(block, TensorRole::kSinks)};
  if (from.is_latent()) return BindLatentAttention(layer);
  const Region& keys = *FindRegion(RegionUse::kKeys, layer);
  const Region& values = *FindRegion(RegionUse::kValues, layer);
  to.cache = {.keys = Address(keys),
              .values = Address(values),
              .format = options_.kv_type,
              .capacity = KvPositions(spec_.layers[layer], options_),
              .kv_heads = to.kv_heads,
              .head_dim = from.head_dim,
              .sequence_stride = keys.bytes / options_.batch,
              .sequences = options_.batch,
              .positions = spec_.layers[layer].stack.empty() ? options_.context : 0};
}

// One KV head, of which the keys are also the values.
void Engine::BindLatentAttention(int layer) {
  const int block = spec_.attention_block(layer);
  const AttentionSpec& from = spec_.layers[layer].attention;
  AttentionBlock& to = attention_[layer];
  LatentBlock& latent = to.latent;
  latent.kv_rank = static_cast<int>(from.latent.kv_rank);
  latent.rope_dim = from.latent.rope_dim;
  latent.query_down = Matrix(block, TensorRole::kQueryDown);
  latent.query_down_norm = Vector(block, TensorRole::kQueryDownNorm);
  if (latent.query_down.rows > 0) to.query = Matrix(block, TensorRole::kQueryUp);
  latent.kv_down = Matrix(block, TensorRole::kKvDown);
  latent.kv_down_norm = Vector(block, TensorRole::kKvDownNorm);
  latent.key_down = Matrix(block, TensorRole::kKeyDown);
  latent.key_up = Matrix(block, TensorRole::kKeyUp);
  latent.key_up_is_transposed = latent.key_up.format == nullptr;
  if (latent.key_up_is_transposed) latent.key_up = Matrix(block, TensorRole::kKeyUpTransposed);
  latent.value_up = Matrix(block, TensorRole::kValueUp);
  to.shape.first_query_head = to.shape.first_kv_head = 0;
  to.shape.queries_per_kv_head = std::max(to.shape.query_heads, 1);
  const Region& rows = *FindRegion(RegionUse::kLatents, layer);
  to.cache = {.keys = Address(rows),
              .values = Address(rows),
              .format = options_.kv_type,
              .capacity = KvPositions(spec_.layers[layer], options_),
              .kv_heads = to.shape.query_heads > 0 ? 1 : 0,
              .head_dim = static_cast<int>(from.latent_cache()),
              .sequence_stride = rows.bytes / options_.batch,
              .sequences = options_.batch,
              .positions = options_.context};
}

ExpertMatrices Engine::Experts(int block, TensorRole role, TensorRole bias_role) const {
  const WeightMatrix all = Matrix(block, role);
  for (const TensorSpec& tensor : spec_.tensors) {
    if (tensor.block == block && tensor.role == role) {
      return {all, tensor.shape[0] / tensor.experts, Vector(block, bias_role)};
    }
  }
  return {};
}

void Engine::BindExperts(int layer) {
  const int block = spec_.mlp_block(layer);
  const Placement& placement = placements_[block];
  const Range experts = UnitRange(placement, IndexInGroup(placement, rank_));
  ExpertsBlock& to = mlp_[layer].experts;
  to.spec = spec_.layers[layer].mlp.experts;
  to.first_expert = static_cast<int>(experts.begin);
  to.experts = static_cast<int>(experts.size());
  to.router = Matrix(block, TensorRole::kRouter);
  to.router_bias = Vector(block, TensorRole::kRouterBias);
  to.choice_bias = Vector(block, TensorRole::kChoiceBias);
  to.gate = Experts(block, TensorRole::kExpertGate, TensorRole::kExpertGateBias);
  to.up = Experts(block, TensorRole::kExpertUp, TensorRole::kExpertUpBias);
  to.down = Experts(block, TensorRole::kExpertDown, TensorRole::kExpertDownBias);
  to.shared_gate = Matrix(block, TensorRole::kSharedGate);
  to.shared_up = Matrix(block, TensorRole::kSharedUp);
  to.shared_down = Matrix(block, TensorRole::kSharedDown);
  to.shared_router = Matrix(block, TensorRole::kSharedRouter);
  // Without shared experts block_output begins as the output of a matrix without columns.
  if (to.shared_down.format == nullptr) to.shared_down = {nullptr, &kF32Format, spec_.dim, 0};
}

void Engine::BindMlp(int layer) {
  const int block = spec_.mlp_block(layer);
  MlpBlock& to = mlp_[layer];
  to.norm = {Vector(block, TensorRole::kNorm), spec_.layers[layer].norm};
  to.post_norm_weight = Vector(block, TensorRole::kPostNorm);
  to.activation = spec_.layers[layer].mlp.activation;
  if (spec_.layers[layer].mlp.experts.count > 0) return BindExperts(layer);
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
