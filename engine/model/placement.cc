#include "engine/model/placement.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// Vectors of 16 floats and the rows of most formats stay whole in units of this many columns.
constexpr int64_t kPreferredColumns = 32;

// The largest power of two, up to kPreferredColumns, that divides `width`.
int64_t AlignedUnit(int64_t width) {
  int64_t unit = kPreferredColumns;
  while (width % unit != 0) unit /= 2;
  return unit;
}

// The least number of an MLP's columns that cuts no block of its down projection.
int64_t FfnUnit(const ModelSpec& spec, int block, int64_t ffn_dim, TensorRole down_role) {
  const TensorSpec* down = FindTensor(spec, block, down_role);
  const int64_t block_elements =
      down != nullptr && down->format != nullptr ? down->format->block_elements : 1;
  const int64_t unit = std::lcm(AlignedUnit(ffn_dim), block_elements);
  return ffn_dim % unit == 0 ? unit : ffn_dim;
}

// KV heads per attention unit: more than one where a block of the output projection's format (its
// columns are the query heads) would be cut between them.
int64_t KvHeadsPerUnit(const ModelSpec& spec, int block) {
  const AttentionSpec& attention = spec.layers[spec.blocks[block].layer].attention;
  const TensorSpec* out = FindTensor(spec, block, TensorRole::kAttentionOut);
  if (out == nullptr || out->format == nullptr) return 1;
  const int64_t columns = attention.heads / attention.kv_heads * attention.values();
  const int64_t needed =
      out->format->block_elements / std::gcd(out->format->block_elements, columns);
  return attention.kv_heads % needed == 0 ? needed : attention.kv_heads;
}

Range Scale(Range units, int64_t elements) {
  return {units.begin * elements, units.end * elements};
}

// What follows the shares of a block without being counted by its units (the shared experts, rows
// of a second vocabulary): the same part of `extent`, in whole multiples of `multiple`, which
// divides it.
Range Follow(Range units, int64_t unit_count, int64_t extent, int64_t multiple) {
  const int64_t parts = extent / multiple;
  return {parts * units.begin / unit_count * multiple, parts * units.end / unit_count * multiple};
}

bool BelongsToQueryHeads(TensorRole role) {
  return role != TensorRole::kKey && role != TensorRole::kValue && role != TensorRole::kKeyBias &&
         role != TensorRole::kValueBias;
}

bool IsShared(TensorRole role) {
  return role == TensorRole::kSharedGate || role == TensorRole::kSharedUp ||
         role == TensorRole::kSharedDown;
}

// Blocks of a second stack are one unit.
bool IsWhole(const ModelSpec& spec, const Block& block) {
  const bool in_layer = block.kind == BlockKind::kAttention || block.kind == BlockKind::kMlp;
  return in_layer && !spec.layers[block.layer].stack.empty();
}

// The elements of the cut axis, `extent` long, of a tensor of an attention block.
Range AttentionRange(const ModelSpec& spec, const TensorSpec& tensor, const Placement& placement,
                     int index, int64_t extent) {
  const AttentionSpec& attention = spec.layers[spec.blocks[tensor.block].layer].attention;
  if (BelongsToQueryHeads(tensor.role)) {
    return Scale(QueryHeads(spec, tensor.block, placement, index), extent / attention.heads);
  }
  return Scale(KvHeads(spec, tensor.block, placement, index), extent / attention.kv_heads);
}

// The elements of the cut axis of `tensor` that the units stand for, e.g. rows of the query
// projection.
Range OutputRange(const ModelSpec& spec, const TensorSpec& tensor, const Placement& placement,
                  int index) {
  const Block& block = spec.blocks[tensor.block];
  const int64_t extent = tensor.split == SplitRule::kColumn ? tensor.shape[0] : tensor.shape[1];
  if (IsWhole(spec, block)) return placement.shares[index] > 0 ? Range{0, extent} : Range{};
  if (block.kind == BlockKind::kAttention) {
    return AttentionRange(spec, tensor, placement, index, extent);
  }
  const BlockUnits units = UnitsOf(spec, tensor.block, placement.kv_replication);
  const Range range = UnitRange(placement, index);
  if (tensor.experts > 0) return Scale(range, extent / tensor.experts);
  if (IsShared(tensor.role)) {
    const int64_t columns = spec.layers[block.layer].mlp.experts.shared_ffn_dim;
    return Follow(range, units.count, extent,
                  FfnUnit(spec, tensor.block, columns, TensorRole::kSharedDown));
  }
  if (extent == units.count * units.elements) return Scale(range, units.elements);
  return Follow(range, units.count, extent, 1);
}

absl::Status BadPlacement(const ModelSpec& spec, int block, absl::string_view fault) {
  return absl::InvalidArgumentError(
      absl::StrCat("placement of ", BlockName(spec, block), ": ", fault));
}

absl::Status ValidateGroup(const ModelSpec& spec, int block, const Placement& placement,
                           int world_size) {
  if (placement.ranks.empty()) return BadPlacement(spec, block, "it has no ranks");
  if (placement.ranks.size() != placement.shares.size()) {
    return BadPlacement(
        spec, block,
        absl::StrCat(placement.ranks.size(), " ranks but ", placement.shares.size(), " shares"));
  }
  std::set<int> seen;
  for (int rank : placement.ranks) {
    if (rank < 0 || rank >= world_size) {
      return BadPlacement(
          spec, block,
          absl::StrCat("rank ", rank, " is not one of the ", world_size, " ranks of the plan"));
    }
    if (!seen.insert(rank).second) {
      return BadPlacement(spec, block, absl::StrCat("rank ", rank, " appears twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateReplication(const ModelSpec& spec, int block, int replication) {
  if (replication == 1) return absl::OkStatus();
  if (spec.blocks[block].kind != BlockKind::kAttention) {
    return BadPlacement(spec, block, "kv_replication is for attention blocks only");
  }
  if (CanReplicateKv(spec, block, replication)) return absl::OkStatus();
  const AttentionSpec& attention = spec.layers[spec.blocks[block].layer].attention;
  return BadPlacement(
      spec, block,
      absl::StrCat("kv_replication ", replication, " does not cut the ",
                   attention.heads / attention.kv_heads,
                   " query heads of a KV head into equal parts of whole format blocks"));
}

absl::Status ValidateShares(const ModelSpec& spec, int block, const Placement& placement) {
  const BlockUnits units = UnitsOf(spec, block, placement.kv_replication);
  int64_t left = units.count;
  for (int64_t share : placement.shares) {
    if (share < 0) return BadPlacement(spec, block, absl::StrCat("share ", share, " is negative"));
    if (share > left) {
      return BadPlacement(spec, block,
                          absl::StrCat("the shares add up to more than its ", units.count,
                                       " units of ", units.elements, " each"));
    }
    left -= share;
  }
  if (left == 0) return absl::OkStatus();
  return BadPlacement(
      spec, block,
      absl::StrCat("the shares add up to ", units.count - left, " units, but it has ", units.count,
                   " of ", units.elements, " each"));
}

}  // namespace

bool CanReplicateKv(const ModelSpec& spec, int block, int replication) {
  const AttentionSpec& attention = spec.layers[spec.blocks[block].layer].attention;
  const int group = attention.heads / attention.kv_heads;
  if (replication < 1 || replication > group || group % replication != 0) return false;
  const TensorSpec* out = FindTensor(spec, block, TensorRole::kAttentionOut);
  const int64_t block_elements =
      out == nullptr || out->format == nullptr ? 1 : out->format->block_elements;
  return int64_t{group / replication} * attention.values() % block_elements == 0;
}

BlockUnits UnitsOf(const ModelSpec& spec, int block, int kv_replication) {
  const Block& what = spec.blocks[block];
  const bool whole = IsWhole(spec, what);
  switch (what.kind) {
    case BlockKind::kAttention: {
      const AttentionSpec& attention = spec.layers[what.layer].attention;
      if (whole) return {1, attention.heads};
      const int64_t merged = kv_replication > 1 ? 1 : KvHeadsPerUnit(spec, block);
      const int64_t count = attention.kv_heads * int64_t{kv_replication} / merged;
      return {count, attention.heads / count};
    }
    case BlockKind::kMlp: {
      const MlpSpec& mlp = spec.layers[what.layer].mlp;
      if (whole) return {1, mlp.ffn_dim};
      if (mlp.experts.count > 0) return {mlp.experts.count, 1};
      const int64_t unit = FfnUnit(spec, block, mlp.ffn_dim, TensorRole::kDown);
      return {mlp.ffn_dim / unit, unit};
    }
    case BlockKind::kEmbed:
    case BlockKind::kHead: {
      const int64_t unit = AlignedUnit(spec.vocab);
      return {spec.vocab / unit, unit};
    }
  }
  return {};
}

int IndexInGroup(const Placement& placement, int rank) {
  const auto it = std::find(placement.ranks.begin(), placement.ranks.end(), rank);
  return it == placement.ranks.end() ? -1 : static_cast<int>(it - placement.ranks.begin());
}

std::vector<int> SharingGroup(const std::vector<Placement>& placements, int rank) {
  std::set<int> taken;
  for (const Placement& placement : placements) {
    const std::vector<int>& ranks = placement.ranks;
    const auto is_taken = [&](int r) { return taken.contains(r); };
    if (ranks.size() < 2 || std::any_of(ranks.begin(), ranks.end(), is_taken)) continue;
    taken.insert(ranks.begin(), ranks.end());
    if (is_taken(rank)) return ranks;
  }
  return {};
}

Range UnitRange(const Placement& placement, int index) {
  const int64_t begin =
      std::accumulate(placement.shares.begin(), placement.shares.begin() + index, int64_t{0});
  return {begin, begin + placement.shares[index]};
}

Range QueryHeads(const ModelSpec& spec, int block, const Placement& placement, int index) {
  return Scale(UnitRange(placement, index),
               UnitsOf(spec, block, placement.kv_replication).elements);
}

Range KvHeads(const ModelSpec& spec, int block, const Placement& placement, int index) {
  const AttentionSpec& attention = spec.layers[spec.blocks[block].layer].attention;
  const int64_t queries_per_kv_head = attention.heads / attention.kv_heads;
  const Range heads = QueryHeads(spec, block, placement, index);
  const int64_t begin = heads.begin / queries_per_kv_head;
  if (heads.size() == 0) return {begin, begin};
  return {begin, (heads.end + queries_per_kv_head - 1) / queries_per_kv_head};
}

Shard ShardOf(const ModelSpec& spec, const TensorSpec& tensor, const Placement& placement,
              int index) {
  const int64_t rows = tensor.shape[0];
  const int64_t columns = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
  const Shard whole = {{0, rows}, {0, columns}};
  if (tensor.split == SplitRule::kReplicate) return whole;
  const Range part = OutputRange(spec, tensor, placement, index);
  if (part.size() == 0) return {};
  return tensor.split == SplitRule::kColumn ? Shard{part, whole.columns} : Shard{whole.rows, part};
}

const WeightFormat& StoredFormat(const TensorSpec& tensor) {
  return tensor.shape.size() == 1 ? kF32Format : *tensor.format;
}

int64_t ShardBytes(const TensorSpec& tensor, const Shard& shard) {
  return shard.rows.size() * StoredFormat(tensor).Bytes(shard.columns.size());
}

absl::Status ValidatePlacements(const ModelSpec& spec, const std::vector<Placement>& placements,
                                int world_size) {
  if (placements.size() != spec.blocks.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the plan places ", placements.size(),
                                                   " blocks, but ", spec.name, " has ",
                                                   spec.blocks.size()));
  }
  for (int block = 0; block < static_cast<int>(placements.size()); ++block) {
    RETURN_IF_ERROR(ValidateGroup(spec, block, placements[block], world_size));
    RETURN_IF_ERROR(ValidateReplication(spec, block, placements[block].kv_replication));
    RETURN_IF_ERROR(ValidateShares(spec, block, placements[block]));
  }
  return absl::OkStatus();
}

}  // namespace tprun
