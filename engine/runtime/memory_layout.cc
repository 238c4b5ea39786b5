#include "engine/runtime/memory_layout.h"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/kernels/sampling.h"

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

// As llama.cpp (-ctk, -ctv) and vLLM (--kv-cache-dtype) have them. fp8 is a plain byte per element:
// a scale of one, as vLLM takes where a checkpoint has none.
constexpr const WeightFormat* kKvTypes[] = {&kF32Format,  &kF16Format,  &kBF16Format, &kE4M3Format,
                                            &kQ8_0Format, &kQ5_1Format, &kQ5_0Format, &kQ4_1Format,
                                            &kQ4_0Format, &kIq4NlFormat};
constexpr absl::string_view kPlannedKvTypes[] = {"fp8_e5m2"};

// The widest of a rank's blocks, which its workspaces are made for.
struct Widths {
  bool any_block = false;
  bool head = false;
  int64_t qkv = 0;
  int64_t attention = 0;
  int64_t ffn = 0;
  int64_t routing = 0;
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
      const AttentionSpec& attention = spec_.layers[what.layer].attention;
      const int64_t kv_heads = KvHeads(spec_, block, placement, index).size();
      // Of latent attention each head also has a query and an output as wide as the cache's rows.
      const int64_t row = attention.latent_cache();
      const int64_t latent = elements > 0 ? attention.latent.query_rank + row + elements * row : 0;
      widths_.attention = std::max(widths_.attention, elements * (attention.values() + row));
      widths_.qkv = std::max(widths_.qkv, elements * attention.head_dim +
                                              kv_heads * attention.cache_per_kv_head() + latent);
    } else if (what.kind == BlockKind::kMlp) {
      const ExpertsSpec& experts = spec_.layers[what.layer].mlp.experts;
      widths_.ffn = std::max(widths_.ffn, MlpColumns(what.layer, elements));
      if (experts.count > 0) {
        widths_.routing =
            std::max<int64_t>(widths_.routing, experts.count + 2 * experts.per_token + 1);
      }
    } else if (what.kind == BlockKind::kHead) {
      widths_.head = true;
      widths_.logits_shard = std::max(elements, DepthLogits(block, index));
    }
  }

  // The most logits of a step of the second stack.
  int64_t DepthLogits(int block, int index) const {
    int64_t rows = 0;
    for (const TensorSpec& tensor : spec_.tensors) {
      if (tensor.block != block || tensor.role != TensorRole::kDepthHead) continue;
      rows = std::max(rows, ShardOf(spec_, tensor, placements_[block], index).rows.size());
    }
    return rows;
  }

  // Columns that one token goes through at most: of the experts that the router may pick here, or
  // of the shared ones.
  int64_t MlpColumns(int layer, int64_t elements) const {
    const MlpSpec& mlp = spec_.layers[layer].mlp;
    if (mlp.experts.count == 0) return elements;
    const int64_t picked = std::min<int64_t>(elements, mlp.experts.per_token);
    const int64_t shared = elements > 0 ? mlp.experts.shared_ffn_dim : 0;
    return std::max(picked * mlp.ffn_dim, shared);
  }

  void AddKvCaches() {
    for (int layer = 0; layer < spec_.num_layers(); ++layer) {
      const int block = spec_.attention_block(layer);
      const int index = Index(block);
      if (index < 0) continue;
      AddKvCache(layer, index);
    }
  }

  // Latent attention keeps one vector per position, whole on every rank that has a head.
  void AddKvCache(int layer, int index) {
    const int block = spec_.attention_block(layer);
    const AttentionSpec& attention = spec_.layers[layer].attention;
    const int64_t kv_heads = KvHeads(spec_, block, placements_[block], index).size();
    const int64_t positions = KvPositions(spec_.layers[layer], options_);
    const auto add = [&](RegionUse use, int64_t heads, int64_t elements) {
      Add({.kind = RegionKind::kKvCache,
           .use = use,
           .layer = layer,
           .bytes = Product({options_.batch, positions, heads, KvRowBytes(options_, elements)})});
    };
    if (attention.is_latent()) {
      add(RegionUse::kLatents, kv_heads > 0 ? 1 : 0, attention.latent_cache());
    } else {
      add(RegionUse::kKeys, kv_heads, attention.head_dim);
      add(RegionUse::kValues, kv_heads, attention.values());
    }
  }

  void AddWorkspace(RegionUse use, std::initializer_list<int64_t> extents) {
    Add({.kind = RegionKind::kWorkspace, .use = use, .bytes = Product(extents)});
  }

  void AddWorkspaces() {
    if (!widths_.any_block && rank_ != 0) return;
    const int64_t chunk = ChunkTokens(options_);
    constexpr int64_t kFloat = sizeof(float);
    if (widths_.any_block) {
      AddWorkspace(RegionUse::kResidual, {chunk, spec_.dim, kFloat});
      AddWorkspace(RegionUse::kNormed, {chunk, spec_.dim, kFloat});
      AddWorkspace(RegionUse::kBlockOutput, {chunk, spec_.dim, kFloat});
      AddWorkspace(RegionUse::kQkv, {chunk, widths_.qkv, kFloat});
      AddWorkspace(RegionUse::kAttention, {chunk, widths_.attention, kFloat});
      AddWorkspace(RegionUse::kGate, {chunk, widths_.ffn, kFloat});
      AddWorkspace(RegionUse::kUp, {chunk, widths_.ffn, kFloat});
      if (widths_.routing > 0) AddWorkspace(RegionUse::kRouting, {chunk, widths_.routing, kFloat});
      AddWorkspace(RegionUse::kStepInputs,
                   {spec_.streams + 2, chunk, static_cast<int64_t>(sizeof(int32_t))});
      if (spec_.depth.steps > 0) {
        AddWorkspace(RegionUse::kDepthHidden, {options_.batch, spec_.dim, kFloat});
      }
      AddRopeFrequencies();
    }
    AddHeadWorkspaces(std::min(std::max<int64_t>(options_.batch, options_.logit_rows), chunk));
  }

  void AddHeadWorkspaces(int64_t ends) {
    constexpr int64_t kFloat = sizeof(float);
    constexpr int64_t kBestLogit = 2 * sizeof(float);
    if (widths_.head) {
      AddWorkspace(RegionUse::kLogitsShard, {ends, widths_.logits_shard, kFloat});
      AddWorkspace(RegionUse::kBestShard, {ends, kBestLogit});
      AddWorkspace(RegionUse::kSampling, {ends, static_cast<int64_t>(sizeof(SampleRequest))});
      AddWorkspace(RegionUse::kSeen, {options_.batch, SeenWords(spec_.vocab),
                                      static_cast<int64_t>(sizeof(uint32_t))});
    }
    if (!widths_.head && rank_ != 0) return;
    const int64_t head_ranks = placements_[spec_.head_block()].ranks.size();
    AddWorkspace(RegionUse::kLogits, {ends, std::max(spec_.vocab, spec_.depth.vocab), kFloat});
    AddWorkspace(RegionUse::kBest, {head_ranks, ends, kBestLogit});
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

absl::string_view KvTypeName(const EngineOptions& options) { return options.kv_type->name; }

absl::Status SetKvType(absl::string_view name, EngineOptions& options) {
  if (name == "fp8") name = kE4M3Format.name;
  for (const WeightFormat* type : kKvTypes) {
    if (name != type->name) continue;
    options.kv_type = type;
    return absl::OkStatus();
  }
  for (absl::string_view planned : kPlannedKvTypes) {
    if (name != planned) continue;
    options.kv_type = FindWeightFormat(planned);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown element type \"", name,
                                                 "\" of the KV cache; choose one of ",
                                                 absl::StrJoin(AllKvTypes(), ", ")));
}

std::vector<std::string> AllKvTypes() {
  std::vector<std::string> names;
  for (const WeightFormat* type : kKvTypes) names.push_back(std::string(type->name));
  for (absl::string_view planned : kPlannedKvTypes) names.push_back(std::string(planned));
  return names;
}

int64_t KvRowBytes(const EngineOptions& options, int64_t elements) {
  const WeightFormat& type = *options.kv_type;
  return type.Bytes((elements + type.block_elements - 1) / type.block_elements *
                    type.block_elements);
}

int64_t ChunkTokens(const EngineOptions& options) {
  return std::max<int64_t>(1, std::min(options.prefill_chunk, options.context));
}

int64_t KvPositions(const LayerSpec& layer, const EngineOptions& options) {
  if (!layer.stack.empty()) return layer.steps;
  const int64_t window = layer.attention.window;
  if (window <= 0) return options.context;
  // In this order nothing overflows.
  return window - 1 < options.context - ChunkTokens(options) ? window - 1 + ChunkTokens(options)
                                                             : options.context;
}

absl::Status CheckKvType(const ModelSpec& spec, const EngineOptions& options) {
  const int64_t block = options.kv_type->block_elements;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    for (int64_t row : {int64_t{attention.head_dim}, int64_t{attention.values()},
                        int64_t{attention.latent_cache()}}) {
      // Of latent attention only the row of latents is kept.
      if (attention.is_latent() && row != attention.latent_cache()) continue;
      if (row % block == 0) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("a KV cache of type ", KvTypeName(options), " is made of blocks of ", block,
                       " elements; ", spec.name, " keeps rows of ", row,
                       attention.is_latent() ? " (its latents)" : " (its heads)",
                       ", which is no whole number of them; choose f32, f16, bf16 or fp8_e4m3"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRunnable(const EngineOptions& options) {
  if (options.kv_type->decodable()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a KV cache of type ", KvTypeName(options), " can be planned but not run"));
}

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
    int64_t all = ShardBytes(tensor, shard);
    if (tensor.experts > 0 && spec.blocks[block].kind == BlockKind::kMlp) {
      const ExpertsSpec& experts = spec.layers[spec.blocks[block].layer].mlp.experts;
      if (experts.count > 0) all = all / experts.count * experts.per_token;
    }
    bytes += all;
  }
  return bytes;
}

}  // namespace tprun
