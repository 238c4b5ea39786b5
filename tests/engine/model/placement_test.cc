#include "engine/model/placement.h"

#include "engine/arch/architecture.h"
#include "gmock/gmock.h"

namespace tprun {
namespace {

// A two-layer model of the given numbers, all matrices in `format`.
ModelSpec Model(int heads, int kv_heads, int head_dim, int ffn_dim, int vocab,
                const WeightFormat& format = kF32Format) {
  const Json config = {{"model_type", "llama"},
                       {"hidden_size", heads * head_dim},
                       {"num_hidden_layers", 2},
                       {"intermediate_size", ffn_dim},
                       {"vocab_size", vocab},
                       {"num_attention_heads", heads},
                       {"num_key_value_heads", kv_heads},
                       {"head_dim", head_dim}};
  const auto architecture = FindArchitecture(config);
  auto spec = (*architecture)->build(config, Naming::kHuggingFace);
  EXPECT_TRUE(spec.ok()) << spec.status();
  for (TensorSpec& tensor : spec->tensors) tensor.format = &format;
  return *std::move(spec);
}

TEST(Units, AreKvHeadsFfnColumnsAndVocabularyRows) {
  const ModelSpec spec = Model(8, 4, 16, 172, 131);
  EXPECT_EQ(UnitsOf(spec, spec.attention_block(0)).count, 4);
  EXPECT_EQ(UnitsOf(spec, spec.attention_block(0)).elements, 2);  // query heads
  EXPECT_EQ(UnitsOf(spec, spec.mlp_block(0)).elements, 4);        // 172 = 43 * 4
  EXPECT_EQ(UnitsOf(spec, spec.mlp_block(0)).count, 43);
  EXPECT_EQ(UnitsOf(spec, spec.head_block()).count, 131);  // odd: row by row
}

TEST(Units, KvHeadsCanBeReplicated) {
  const ModelSpec spec = Model(8, 2, 16, 64, 64);
  const BlockUnits units = UnitsOf(spec, spec.attention_block(1), 2);
  EXPECT_EQ(units.count, 4);
  EXPECT_EQ(units.elements, 2);
}

TEST(Units, NeverCutABlockOfTheFormat) {
  // Two query heads of 8 columns are half a block of q8_0, so a unit is two KV heads.
  const ModelSpec heads = Model(8, 4, 8, 64, 64, kQ8_0Format);
  EXPECT_EQ(UnitsOf(heads, heads.attention_block(0)).count, 2);
  EXPECT_EQ(UnitsOf(heads, heads.attention_block(0)).elements, 4);
  // 3 KV heads cannot be grouped in pairs: one unit of all.
  const ModelSpec odd = Model(3, 3, 16, 96, 64, kQ8_0Format);
  EXPECT_EQ(UnitsOf(odd, odd.attention_block(0)).count, 1);
  const ModelSpec wide = Model(8, 4, 32, 96, 64, kQ8_0Format);
  EXPECT_EQ(UnitsOf(wide, wide.mlp_block(0)).elements, 32);
  EXPECT_EQ(UnitsOf(wide, wide.mlp_block(0)).count, 3);
}

TEST(Shards, FollowTheShares) {
  const ModelSpec spec = Model(8, 4, 16, 96, 64);
  const int block = spec.attention_block(0);
  const Placement placement = {.ranks = {3, 0, 5}, .shares = {1, 0, 3}};
  EXPECT_EQ(IndexInGroup(placement, 5), 2);
  EXPECT_EQ(IndexInGroup(placement, 1), -1);
  EXPECT_EQ(QueryHeads(spec, block, placement, 2), (Range{2, 8}));
  EXPECT_EQ(KvHeads(spec, block, placement, 2), (Range{1, 4}));
  EXPECT_EQ(KvHeads(spec, block, placement, 1).size(), 0);
  const TensorSpec& query = *FindTensor(spec, block, TensorRole::kQuery);
  EXPECT_EQ(ShardOf(spec, query, placement, 0), (Shard{{0, 32}, {0, 128}}));
  EXPECT_EQ(ShardOf(spec, query, placement, 2), (Shard{{32, 128}, {0, 128}}));
  const TensorSpec& out = *FindTensor(spec, block, TensorRole::kAttentionOut);
  EXPECT_EQ(ShardOf(spec, out, placement, 2), (Shard{{0, 128}, {32, 128}}));
  EXPECT_EQ(ShardBytes(out, ShardOf(spec, out, placement, 2)), 128 * 96 * 4);
  EXPECT_EQ(ShardBytes(out, ShardOf(spec, out, placement, 1)), 0);
  const TensorSpec& norm = *FindTensor(spec, block, TensorRole::kNorm);
  EXPECT_EQ(ShardBytes(norm, ShardOf(spec, norm, placement, 1)), 128 * 4);
}

TEST(Shards, ReplicatedKvHeadsOverlap) {
  const ModelSpec spec = Model(8, 2, 16, 96, 64);  // 4 query heads per KV head
  const int block = spec.attention_block(0);
  const Placement placement = {.ranks = {0, 1, 2}, .shares = {1, 2, 1}, .kv_replication = 2};
  EXPECT_EQ(QueryHeads(spec, block, placement, 1), (Range{2, 6}));
  EXPECT_EQ(KvHeads(spec, block, placement, 0), (Range{0, 1}));
  EXPECT_EQ(KvHeads(spec, block, placement, 1), (Range{0, 2}));
  EXPECT_EQ(KvHeads(spec, block, placement, 2), (Range{1, 2}));
}

// Placements of a whole model with one block's changed.
absl::Status Validate(const ModelSpec& spec, int block, const Placement& changed) {
  std::vector<Placement> placements;
  for (int b = 0; b < static_cast<int>(spec.blocks.size()); ++b) {
    placements.push_back({.ranks = {0}, .shares = {UnitsOf(spec, b).count}});
  }
  placements[block] = changed;
  return ValidatePlacements(spec, placements, changed.ranks.size() > 2 ? 3 : 2);
}

TEST(SharingGroup, EveryRankIsInOneAtMostAndAllFindTheSame) {
  const auto group_of = [](std::vector<std::vector<int>> groups, int rank) {
    std::vector<Placement> placements;
    for (std::vector<int>& ranks : groups) placements.push_back({.ranks = std::move(ranks)});
    return SharingGroup(placements, rank);
  };
  using Ranks = std::vector<int>;
  EXPECT_EQ(group_of({{0}, {1}}, 0), Ranks());
  EXPECT_EQ(group_of({{0}, {2, 1}, {2, 1}}, 1), Ranks({2, 1}));
  EXPECT_EQ(group_of({{0}, {2, 1}, {2, 1}}, 0), Ranks());
  // The second group would give rank 1 a second memory, the third is of others.
  const std::vector<Ranks> groups = {{0, 1}, {1, 2, 3}, {3, 2}, {0, 1}};
  EXPECT_EQ(group_of(groups, 0), Ranks({0, 1}));
  EXPECT_EQ(group_of(groups, 1), Ranks({0, 1}));
  EXPECT_EQ(group_of(groups, 2), Ranks({3, 2}));
  EXPECT_EQ(group_of(groups, 3), Ranks({3, 2}));
  EXPECT_EQ(group_of(groups, 4), Ranks());
}

TEST(ValidatePlacements, NamesBlockAndFault) {
  const ModelSpec spec = Model(8, 4, 16, 96, 64);
  const int attention = spec.attention_block(1);
  EXPECT_TRUE(Validate(spec, attention, {.ranks = {1, 0}, .shares = {4, 0}}).ok());
  const std::pair<Placement, const char*> bad[] = {
      {{.ranks = {}, .shares = {}}, "no ranks"},
      {{.ranks = {0, 1}, .shares = {4}}, "2 ranks but 1 shares"},
      {{.ranks = {0, 0}, .shares = {2, 2}}, "twice"},
      {{.ranks = {2}, .shares = {4}}, "rank 2"},
      {{.ranks = {-1}, .shares = {4}}, "rank -1"},
      {{.ranks = {0, 1}, .shares = {-1, 5}}, "negative"},
      {{.ranks = {0, 1}, .shares = {2, 1}}, "add up to 3"},
      {{.ranks = {0, 1}, .shares = {4, 1}}, "more than its 4 units"},
      // These wrap around to the right sum.
      {{.ranks = {0, 1, 2}, .shares = {6, INT64_MAX, INT64_MAX}}, "more than its 4 units"},
      {{.ranks = {0}, .shares = {4}, .kv_replication = INT32_MAX}, "kv_replication"},
      {{.ranks = {0}, .shares = {12}, .kv_replication = 3}, "kv_replication 3"},
      {{.ranks = {0}, .shares = {0}, .kv_replication = 0}, "kv_replication 0"}};
  for (const auto& [placement, fault] : bad) {
    const absl::Status status = Validate(spec, attention, placement);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::HasSubstr("layer 1 attention"), testing::HasSubstr(fault)));
  }
  EXPECT_FALSE(ValidatePlacements(spec, {}, 2).ok());
  EXPECT_FALSE(
      Validate(spec, spec.mlp_block(0), {.ranks = {0}, .shares = {3}, .kv_replication = 2}).ok());
}

TEST(ValidatePlacements, RefusesReplicationAcrossBlocks) {
  const ModelSpec spec = Model(8, 4, 8, 64, 64, kQ8_0Format);  // units of two KV heads
  const absl::Status status =
      Validate(spec, spec.attention_block(0), {.ranks = {0}, .shares = {8}, .kv_replication = 2});
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("whole format blocks"));
}

TEST(CanReplicateKv, OnlyIntoEqualPartsOfWholeBlocks) {
  const ModelSpec plain = Model(12, 2, 8, 64, 64);
  for (int replication : {1, 2, 3, 6}) EXPECT_TRUE(CanReplicateKv(plain, 1, replication));
  for (int replication : {-1, 0, 4, 5, 12}) EXPECT_FALSE(CanReplicateKv(plain, 1, replication));
  // 4 query heads of 8 columns per KV head are one block of q8_0, half of them are half a block.
  const ModelSpec blocks = Model(8, 2, 8, 64, 64, kQ8_0Format);
  EXPECT_TRUE(CanReplicateKv(blocks, 1, 1));
  EXPECT_FALSE(CanReplicateKv(blocks, 1, 2));
}

}  // namespace
}  // namespace tprun
