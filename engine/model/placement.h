#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/model_spec.h"

namespace tprun {

// Which ranks hold a block, and how much of it each: the one idea of the design.
struct Placement {
  std::vector<int> ranks;       // the group, in order
  std::vector<int64_t> shares;  // units of ranks[i]; zero is allowed, the sum is the block's units
  // Attention only: each KV head is held by this many units, each with 1/kv_replication of its
  // query heads; more than 1 where a group has more ranks than the model has KV heads.
  int kv_replication = 1;

  bool operator==(const Placement&) const = default;
};

// A block's unit, the least that a rank can hold of it.
struct BlockUnits {
  int64_t count = 0;     // of the whole block
  int64_t elements = 0;  // per unit: query heads, FFN columns, experts or vocabulary rows
};

// attention: one KV head with its query heads (1/kv_replication of them where that is more than 1;
// several KV heads where a format block of the output projection spans them); mlp: FFN columns, in
// the least multiple that cuts no block of the down projection's format and keeps vectors aligned
// where the width allows it, or, in a mixture of experts, experts (shared experts are cut by
// columns in the same proportion); embed and head: vocabulary rows. A block of a second stack is
// one unit. kv_replication is one that CanReplicateKv allows.
BlockUnits UnitsOf(const ModelSpec& spec, int block, int kv_replication = 1);

// Whether the query heads of each KV head of an attention block can be cut into `replication` equal
// parts without cutting a block of the output projection's format.
bool CanReplicateKv(const ModelSpec& spec, int block, int replication);

// A half-open range of units, heads, columns or rows.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// The place of `rank` in the group, or -1.
int IndexInGroup(const Placement& placement, int rank);

// Of the groups of several ranks, each in the order of the blocks unless one of its ranks is in a
// group taken before: the one with `rank` in it; empty: none. All ranks find the same groups.
std::vector<int> SharingGroup(const std::vector<Placement>& placements, int rank);

// The units of group member `index`: the shares before it, up to its own.
Range UnitRange(const Placement& placement, int index);

// What of one tensor a rank holds: rows x columns of the tensor's [out, in] ([n] has n rows of one
// column). Both empty where its share is zero.
struct Shard {
  Range rows;
  Range columns;
  bool operator==(const Shard&) const = default;
};

// The shard of `tensor` for group member `index` of its block's placement.
Shard ShardOf(const ModelSpec& spec, const TensorSpec& tensor, const Placement& placement,
              int index);

// How a rank keeps a tensor: matrices in the checkpoint's format (which must be set), vectors
// (norms, biases) as f32.
const WeightFormat& StoredFormat(const TensorSpec& tensor);

// Bytes of a shard in its stored format.
int64_t ShardBytes(const TensorSpec& tensor, const Shard& shard);

// Query heads and KV heads of group member `index`. Ranges of KV heads of neighbours overlap by a
// head where kv_replication > 1.
Range QueryHeads(const ModelSpec& spec, int block, const Placement& placement, int index);
Range KvHeads(const ModelSpec& spec, int block, const Placement& placement, int index);

// Every placement of a model is sound: one per block, ranks within the world and distinct, shares
// not negative and adding up to the block's units. InvalidArgument names block and fault.
absl::Status ValidatePlacements(const ModelSpec& spec, const std::vector<Placement>& placements,
                                int world_size);

}  // namespace tprun
