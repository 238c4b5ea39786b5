#include "engine/runtime/memory_layout.h"

#include <algorithm>
#include <initializer_list>

namespace tprun {
namespace {

// Product of factors that are not negative, at most kMostBytes.
int64_t Product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t factor : factors) {
    if (factor != 0 && product > kMostBytes / factor) return kMostBytes;
    product *= factor;
  }
  return product;
}

int64_t AlignUp(int64_t bytes) {
  return (bytes + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
}

// The widest of a rank's blocks, which its workspaces are made for.
struct Widths {
  bool any_block = false;
  bool head = false;
  int64_t qkv = 0;
  int64_t attention = 0;
  int64_t ffn = 0;
  int64_t logits_shard = 0;
};

class Builder {
 public:
  Builder(const ModelSpec& spec, const std::vector<Placement>& placements, int rank,
          const EngineOptions& options)
      : spec_(spec), placements_(placements), rank_(rank), options_(options) {}

  MemoryLayout Build() {
    AddWeights();
    for (int block = 0; block < static_cast<int>(spec_.blocks.size()); ++block) Measure(block);
    AddKvCaches();
    AddWorkspaces();
    return std::move(layout_);
  }

 private:
  int Index(int block) const { return IndexInGroup(placements_[block], rank_); }

  int64_t& AllocationOf(RegionKind kind) {
    switch (kind) {
      case RegionKind::kWeights:
        return layout_.weight_bytes;
      case RegionKind::kKvCache:
        return layout_.kv_bytes;
      case RegionKind::kWorkspace:
        break;
    }
    return layout_.workspace_bytes;
  }

  void Add(Region region) {
    int64_t& allocation = AllocationOf(region.kind);
    region.offset = allocation;
    allocation = std::min(kMostBytes, allocation + AlignUp(region.bytes));
    layout_.regions.push_back(region);
  }

  // A tied head that needs the rows that the embedding already has here.
  const Region* SharedEmbedding(const TensorSpec& tensor, const Shard& shard) const {
    if (tensor.role != TensorRole::kHead || !spec_.tied_head) return nullptr;
    for (const Region& region : layout_.regions) {
      if (spec_.tensors[region.tensor].role == TensorRole::kEmbedding && region.shard == shard) {
        return &region;
      }
    }
    return nullptr;
  }

  void AddWeights() {
    for (int i = 0; i < static_cast<int>(spec_.tensors.size()); ++i) {
      const TensorSpec& tensor = spec_.tensors[i];
      const int index = Index(tensor.block);
      if (index < 0) continue;
      Region region = {.kind = RegionKind::kWeights, .use = RegionUse::kTensor, .tensor = i};
      region.shard = ShardOf(spec_, tensor, placements_[tensor.block], index);
      region.bytes = ShardBytes(tensor, region.shard);
      if (const Region* shared = SharedEmbedding(tensor, region.shard)) {
        region.offset = shared->offset;
        layout_.regions.push_back(region);
      } else {
        Add(region);
      }
    }
  }

  void Measure(int block) {
    const int index = Index(block);
    if (index < 0) return;
    widths_.any_block = true;
    const Placement& placement = placements_[block];
    const Block& what = spec_.blocks[block];
    const BlockUnits units = UnitsOf(spec_, block, placement.kv_replication);
    const int64_t elements = placement.shares[index] * units.elements;
    if (what.kind == BlockKind::kAttention) {
      const int64_t head_dim = spec_.layers[what.layer].attention.head_dim;
      const int64_t kv_heads = KvHeads(spec_, block, placement, index).size();
      widths_.attention = std::max(widths_.attention, elements * head_dim);
      widths_.qkv = std::max(widths_.qkv, (elements + 2 * kv_heads) * head_dim);
    } else if (what.kind == BlockKind::kMlp) {
      widths_.ffn = std::max(widths_.ffn, elements);
    } else if (what.kind == BlockKind::kHead) {
      widths_.head = true;
      widths_.logits_shard = elements;
    }
  }

  void AddKvCaches() {
    for (int layer = 0; layer < spec_.num_layers(); ++layer) {
      const int block = spec_.attention_block(layer);
      const int index = Index(block);
      if (index < 0) continue;
      const int64_t kv_heads = KvHeads(spec_, block, placements_[block], index).size();
      const int64_t bytes = Product({options_.batch, kv_heads, options_.context,
                                     spec_.layers[layer].attention.head_dim,
                                     static_cast<int64_t>(SizeOf(options_.kv_type))});
      for (RegionUse use : {RegionUse::kKeys, RegionUse::kValues}) {
        Add({.kind = RegionKind::kKvCache, .use = use, .layer = layer, .bytes = bytes});
      }
    }
  }

  void AddWorkspace(RegionUse use, std::initializer_list<int64_t> extents) {
    Add({.kind = RegionKind::kWorkspace, .use = use, .bytes = Product(extents)});
  }

  void AddWorkspaces() {
    if (!widths_.any_block && rank_ != 0) return;
    const int64_t chunk = std::min(options_.prefill_chunk, options_.context);
    constexpr int64_t kFloat = sizeof(float);
    if (widths_.any_block) {
      AddWorkspace(RegionUse::kResidual, {chunk, spec_.dim, kFloat});
      AddWorkspace(RegionUse::kNormed, {chunk, spec_.dim, kFloat});
      AddWorkspace(RegionUse::kBlockOutput, {chunk, spec_.dim, kFloat});
      AddWorkspace(RegionUse::kQkv, {chunk, widths_.qkv, kFloat});
      AddWorkspace(RegionUse::kAttention, {chunk, widths_.attention, kFloat});
      AddWorkspace(RegionUse::kGate, {chunk, widths_.ffn, kFloat});
      AddWorkspace(RegionUse::kUp, {chunk, widths_.ffn, kFloat});
      AddWorkspace(RegionUse::kTokenIds, {chunk, static_cast<int64_t>(sizeof(int32_t))});
      AddRopeFrequencies();
    }
    if (widths_.head) AddWorkspace(RegionUse::kLogitsShard, {widths_.logits_shard, kFloat});
    if (widths_.head || rank_ == 0) AddWorkspace(RegionUse::kLogits, {spec_.vocab, kFloat});
  }

  void AddRopeFrequencies() {
    for (int layer = 0; layer < spec_.num_layers(); ++layer) {
      if (Index(spec_.attention_block(layer)) < 0) continue;
      const int64_t count = spec_.layers[layer].attention.rope.dims / 2;
      Add({.kind = RegionKind::kWorkspace,
           .use = RegionUse::kRopeFrequencies,
           .layer = layer,
           .bytes = count * static_cast<int64_t>(sizeof(float))});
    }
  }

  const ModelSpec& spec_;
  const std::vector<Placement>& placements_;
  int rank_;
  const EngineOptions& options_;
  Widths widths_;
  MemoryLayout layout_;
};

}  // namespace

MemoryLayout LayOutMemory(const ModelSpec& spec, const std::vector<Placement>& placements, int rank,
                          const EngineOptions& options) {
  return Builder(spec, placements, rank, options).Build();
}

int64_t BlockBytesPerToken(const ModelSpec& spec, int block, const Placement& placement,
                           int index) {
  int64_t bytes = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.block != block) continue;
    Shard shard = ShardOf(spec, tensor, placement, index);
    if (tensor.role == TensorRole::kEmbedding) {
      shard.rows.end = std::min(shard.rows.end, shard.rows.begin + 1);
    }
    bytes += ShardBytes(tensor, shard);
  }
  return bytes;
}

}  // namespace tprun
