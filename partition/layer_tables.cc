#include "partition/layer_tables.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

// Blocks of a model with one layer.
constexpr int kEmbedBlock = 0;
constexpr int kAttentionBlock = 1;
constexpr int kMlpBlock = 2;
constexpr int kHeadBlock = 3;

// Ranks of the placements that are measured; rank 0 is apart because logits arrive there.
constexpr int kMeasured = 1;
constexpr int kBefore = 2;
constexpr int kElsewhere = 3;

// Above this many units of replicated KV heads tables by offset would grow too large.
constexpr int64_t kMostOffsetUnits = 128;

// Shares of the same size at different offsets may differ by a row of what follows the units
// (shared experts); this many offsets are looked at and the largest counts.
constexpr int64_t kOffsetSamples = 16;

using TensorsByBlock = std::vector<std::vector<const TensorSpec*>>;

// Once for all layers: of a model of thousands to look through its tensors for each takes seconds.
TensorsByBlock ByBlock(const ModelSpec& spec) {
  TensorsByBlock tensors(spec.blocks.size());
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.block >= 0) tensors[tensor.block].push_back(&tensor);
  }
  return tensors;
}

// `model` is a copy of `spec` without layers, blocks and tensors.
ModelSpec OneLayer(const ModelSpec& spec, const TensorsByBlock& tensors, ModelSpec model,
                   int layer) {
  model.layers = {spec.layers[layer]};
  model.blocks = {{BlockKind::kEmbed, 0},
                  {BlockKind::kAttention, 0},
                  {BlockKind::kMlp, 0},
                  {BlockKind::kHead, 0}};
  const std::pair<int, int> blocks[] = {{spec.embed_block(), kEmbedBlock},
                                        {spec.attention_block(layer), kAttentionBlock},
                                        {spec.mlp_block(layer), kMlpBlock},
                                        {spec.head_block(), kHeadBlock}};
  for (const auto& [from, to] : blocks) {
    for (const TensorSpec* tensor : tensors[from]) {
      model.tensors.push_back(*tensor);
      model.tensors.back().block = to;
    }
  }
  return model;
}

// A block wholly on `rank`.
Placement Whole(const ModelSpec& model, int block, int rank) {
  return {.ranks = {rank}, .shares = {UnitsOf(model, block).count}};
}

std::vector<Placement> AllElsewhere(const ModelSpec& model) {
  std::vector<Placement> placements;
  for (int block = kEmbedBlock; block <= kHeadBlock; ++block) {
    placements.push_back(Whole(model, block, kElsewhere));
  }
  return placements;
}

// The measured rank has `share` units of a block after `offset` others.
Placement Part(int64_t units, int64_t offset, int64_t share, int replication) {
  return {.ranks = {kBefore, kMeasured, kElsewhere},
          .shares = {offset, share, units - offset - share},
          .kv_replication = replication};
}

int64_t AlignUp(int64_t bytes) {
  return (bytes + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
}

// Of workspaces that come once per layer.
int64_t PerLayerWorkspace(const MemoryLayout& layout) {
  int64_t bytes = 0;
  for (const Region& region : layout.regions) {
    if (region.kind == RegionKind::kWorkspace && region.layer >= 0) bytes += AlignUp(region.bytes);
  }
  return bytes;
}

// Equal for layers that differ in nothing that counts here.
std::string Signature(const ModelSpec& model, const EngineOptions& options, const Pass& pass) {
  std::string text;
  for (const TensorSpec& tensor : model.tensors) {
    if (tensor.block != kAttentionBlock && tensor.block != kMlpBlock) continue;
    absl::StrAppend(&text, static_cast<int>(tensor.role), ":", tensor.format->name, ":",
                    static_cast<int>(tensor.split), ":", tensor.experts);
    for (int64_t extent : tensor.shape) absl::StrAppend(&text, ",", extent);
    absl::StrAppend(&text, ";");
  }
  for (int block : {kAttentionBlock, kMlpBlock}) {
    const Placement whole = Whole(model, block, kMeasured);
    const BlockWork work = WorkOf(model, block, whole, 0, options, pass);
    absl::StrAppend(&text, whole.shares[0], " ", work.kv_bytes, " ", work.attention_ops, " ",
                    work.steps, " ");
    std::vector<Placement> placements = AllElsewhere(model);
    placements[block] = whole;
    absl::StrAppend(&text, LayOutMemory(model, placements, kMeasured, options).total_bytes(), " ");
  }
  const AttentionSpec& attention = model.layers[0].attention;
  return absl::StrCat(text, attention.heads, " ", attention.kv_heads);
}

}  // namespace

LayerTables::LayerTables(const ModelSpec& spec, const EngineOptions& options, const Pass& pass,
                         const Coefficients& coefficients, const std::vector<DeviceRates>& devices)
    : spec_(spec), options_(options), pass_(pass), devices_(devices) {
  for (const DeviceRates& device : devices) {
    coefficients_.push_back(CoefficientsFor(coefficients, device));
    const auto same = [&](const DeviceRates& other) {
      return other.kind == device.kind && other.name == device.name &&
             other.compute_capability == device.compute_capability &&
             other.bandwidth_bytes_per_s == device.bandwidth_bytes_per_s &&
             other.ops_per_s == device.ops_per_s;
    };
    like_.push_back(std::find_if(devices.begin(), devices.end(), same) - devices.begin());
  }
  std::map<std::string, int> classes;
  ModelSpec bare = spec;
  bare.layers.clear();
  bare.blocks.clear();
  bare.tensors.clear();
  const TensorsByBlock tensors = ByBlock(spec);
  for (int layer = 0; layer < spec.num_layers(); ++layer) {
    ModelSpec model = OneLayer(spec, tensors, bare, layer);
    const auto [entry, added] =
        classes.emplace(Signature(model, options, pass), static_cast<int>(models_.size()));
    if (added) models_.push_back(std::move(model));
    class_of_layer_.push_back(entry->second);
  }
  const ModelSpec& model = models_[0];
  std::vector<Placement> placements = AllElsewhere(model);
  // Of attention: an MLP has room for its router even where no expert lies.
  placements[kAttentionBlock] = Part(UnitsOf(model, kAttentionBlock).count, 0, 0, 1);
  const MemoryLayout nothing = LayOutMemory(model, placements, kMeasured, options);
  base_workspace_ = nothing.workspace_bytes - PerLayerWorkspace(nothing);
  for (int replication = 1;; ++replication) {
    int64_t units = 0;
    bool possible = true;
    bool beyond = false;
    for (const ModelSpec& layer : models_) {
      const AttentionSpec& attention = layer.layers[0].attention;
      beyond = beyond || replication > attention.heads / attention.kv_heads;
      units = std::max<int64_t>(units, int64_t{attention.kv_heads} * replication);
      possible =
          possible && (replication == 1 || CanReplicateKv(layer, kAttentionBlock, replication));
    }
    if (replication > 1 && (beyond || units > kMostOffsetUnits)) break;
    if (possible) replications_.push_back(replication);
  }
}

void LayerTables::FillCell(const ModelSpec& model, int block, int64_t offset, int64_t share,
                           int replication, ShareTable& table) const {
  const Placement placement = Part(table.units, offset, share, replication);
  std::vector<Placement> placements = AllElsewhere(model);
  placements[block] = placement;
  const MemoryLayout layout = LayOutMemory(model, placements, kMeasured, options_);
  const int64_t per_layer = PerLayerWorkspace(layout);
  const size_t cell = table.Cell(offset, share);
  table.bytes[cell] =
      std::max(table.bytes[cell], layout.weight_bytes + layout.kv_bytes + per_layer);
  table.workspace[cell] =
      std::max(table.workspace[cell], layout.workspace_bytes - per_layer - base_workspace_);
  const BlockWork work = WorkOf(model, block, placement, 1, options_, pass_);
  for (size_t device = 0; device < devices_.size(); ++device) {
    double& seconds = table.seconds[device][cell];
    seconds = like_[device] < device
                  ? table.seconds[like_[device]][cell]
                  : std::max(seconds, BlockSeconds(coefficients_[device], devices_[device], work,
                                                   KvTypeName(options_)));
  }
}

ShareTable LayerTables::MakeTable(BlockKind kind, int layer_class, int replication) const {
  const ModelSpec& model = models_[layer_class];
  const int block = kind == BlockKind::kAttention ? kAttentionBlock : kMlpBlock;
  ShareTable table;
  table.units = UnitsOf(model, block, replication).count;
  table.by_offset = replication > 1;
  const size_t cells = (table.units + 1) * (table.by_offset ? table.units + 1 : 1);
  table.bytes.assign(cells, 0);
  table.workspace.assign(cells, 0);
  table.seconds.assign(devices_.size(), std::vector<double>(cells, 0));
  const bool shared = model.layers[0].mlp.experts.shared_ffn_dim > 0 && kind == BlockKind::kMlp;
  for (int64_t share = 0; share <= table.units; ++share) {
    const int64_t offsets = table.units - share;
    const int64_t step = table.by_offset ? 1 : std::max<int64_t>(1, offsets / kOffsetSamples);
    for (int64_t offset = 0; offset <= offsets; offset += step) {
      FillCell(model, block, offset, share, replication, table);
      if (!table.by_offset && !shared) break;
    }
  }
  return table;
}

const ShareTable& LayerTables::Table(BlockKind kind, int layer_class, int replication) const {
  const auto key = std::make_tuple(kind, layer_class, replication);
  const auto found = tables_.find(key);
  if (found != tables_.end()) return found->second;
  return tables_.emplace(key, MakeTable(kind, layer_class, replication)).first->second;
}

int64_t LayerTables::EndsBytes(const Placement* embed, const Placement* head, int rank,
                               bool is_first) const {
  const ModelSpec& model = models_[0];
  const int elsewhere = 1 << 20;
  const auto renumbered = [&](Placement placement) {
    for (int& member : placement.ranks) member = is_first && member == rank ? 0 : member + 1;
    return placement;
  };
  std::vector<Placement> placements;
  for (int block = kEmbedBlock; block <= kHeadBlock; ++block) {
    placements.push_back(Whole(model, block, elsewhere));
  }
  if (embed != nullptr) placements[kEmbedBlock] = renumbered(*embed);
  if (head != nullptr) placements[kHeadBlock] = renumbered(*head);
  const int number = is_first ? 0 : rank + 1;
  const bool member = IndexInGroup(placements[kEmbedBlock], number) >= 0 ||
                      IndexInGroup(placements[kHeadBlock], number) >= 0;
  if (!member && !is_first) return 0;
  const int64_t bytes = LayOutMemory(model, placements, number, options_).total_bytes();
  return bytes - (member ? base_workspace_ : 0);
}

double LayerTables::Seconds(const ModelSpec& model, int block, int device,
                            const Placement& placement, int index) const {
  const BlockWork work = WorkOf(model, block, placement, index, options_, pass_);
  return BlockSeconds(coefficients_[device], devices_[device], work, KvTypeName(options_));
}

double LayerTables::EmbedSeconds(int device, const Placement& placement, int index) const {
  return Seconds(models_[0], kEmbedBlock, device, placement, index);
}

double LayerTables::HeadSeconds(int device, const Placement& placement, int index) const {
  return Seconds(models_[0], kHeadBlock, device, placement, index);
}

const std::vector<std::vector<double>>& LayerTables::HeadTable() const {
  if (!head_.empty()) return head_;
  const int64_t units = EndUnits(BlockKind::kHead);
  head_.assign(devices_.size(), std::vector<double>(units + 1, 0));
  for (int64_t share = 1; share <= units; ++share) {
    const Placement part = {.ranks = {0, 1}, .shares = {share, units - share}};
    const BlockWork work = WorkOf(models_[0], kHeadBlock, part, 0, options_, pass_);
    for (size_t device = 0; device < devices_.size(); ++device) {
      head_[device][share] =
          like_[device] < device
              ? head_[like_[device]][share]
              : BlockSeconds(coefficients_[device], devices_[device], work, KvTypeName(options_));
    }
  }
  return head_;
}

int64_t LayerTables::EndUnits(BlockKind kind) const {
  return UnitsOf(models_[0], kind == BlockKind::kEmbed ? kEmbedBlock : kHeadBlock).count;
}

int64_t LayerTables::logit_message_bytes() const {
  return std::min(pass_.tokens, pass_.sequences) * spec_.vocab * int64_t{sizeof(float)};
}

}  // namespace tprun
