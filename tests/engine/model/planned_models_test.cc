#include <numeric>

#include "engine/arch/architecture.h"
#include "engine/runtime/memory_layout.h"
#include "gmock/gmock.h"

// Placements and memory of models with experts, latent attention and a second stack.

namespace tprun {
namespace {

using testing::HasSubstr;

ModelSpec Build(const Json& config, const WeightFormat& format = kBF16Format) {
  const auto architecture = FindArchitecture(config);
  EXPECT_TRUE(architecture.ok()) << architecture.status();
  auto spec = (*architecture)->build(config, Naming::kHuggingFace);
  EXPECT_TRUE(spec.ok()) << spec.status();
  for (TensorSpec& tensor : spec->tensors) {
    tensor.format = tensor.shape.size() > 1 ? &format : &kF32Format;
  }
  return *std::move(spec);
}

Json MoeConfig() {
  return {{"model_type", "qwen2_moe"},   {"hidden_size", 64},
          {"num_hidden_layers", 2},      {"intermediate_size", 96},
          {"moe_intermediate_size", 48}, {"shared_expert_intermediate_size", 160},
          {"vocab_size", 128},           {"num_attention_heads", 4},
          {"num_key_value_heads", 2},    {"num_experts", 6},
          {"num_experts_per_tok", 2}};
}

Json LatentConfig() {
  return {{"model_type", "deepseek_v2"}, {"hidden_size", 64},           {"num_hidden_layers", 2},
          {"intermediate_size", 96},     {"moe_intermediate_size", 32}, {"vocab_size", 128},
          {"num_attention_heads", 8},    {"q_lora_rank", 40},           {"kv_lora_rank", 24},
          {"qk_nope_head_dim", 16},      {"qk_rope_head_dim", 8},       {"v_head_dim", 12},
          {"n_routed_experts", 4},       {"n_shared_experts", 1},       {"num_experts_per_tok", 2},
          {"first_k_dense_replace", 1}};
}

std::vector<Placement> Over(const ModelSpec& spec, int ranks) {
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const int64_t units = UnitsOf(spec, block).count;
    Placement placement;
    for (int rank = 0; rank < ranks; ++rank) {
      placement.ranks.push_back(rank);
      placement.shares.push_back(units * (rank + 1) / ranks - units * rank / ranks);
    }
    placements.push_back(placement);
  }
  return placements;
}

TEST(Experts, AreTheUnitsAndSharedOnesFollow) {
  const ModelSpec spec = Build(MoeConfig());
  const int block = spec.mlp_block(0);
  EXPECT_EQ(UnitsOf(spec, block).count, 6);
  const Placement placement = {.ranks = {0, 1, 2}, .shares = {1, 0, 5}};
  const TensorSpec& gate = *FindTensor(spec, block, TensorRole::kExpertGate);
  EXPECT_EQ(ShardOf(spec, gate, placement, 0), (Shard{{0, 48}, {0, 64}}));
  EXPECT_EQ(ShardOf(spec, gate, placement, 2), (Shard{{48, 288}, {0, 64}}));
  const TensorSpec& down = *FindTensor(spec, block, TensorRole::kExpertDown);
  EXPECT_EQ(ShardOf(spec, down, placement, 0), (Shard{{0, 64}, {0, 48}}));
  // 160 shared columns in multiples of 32: a sixth of five multiples is none.
  const TensorSpec& shared = *FindTensor(spec, block, TensorRole::kSharedDown);
  EXPECT_EQ(ShardOf(spec, shared, placement, 0).columns.size(), 0);
  EXPECT_EQ(ShardOf(spec, shared, placement, 1), Shard{});
  EXPECT_EQ(ShardOf(spec, shared, placement, 2), (Shard{{0, 64}, {0, 160}}));
  const TensorSpec& router = *FindTensor(spec, block, TensorRole::kRouter);
  EXPECT_EQ(ShardOf(spec, router, placement, 0).rows.size(), 6);
}

// Whatever the shares, the parts of every tensor that is cut make up the whole.
TEST(Placements, OfEveryFamilyCoverEveryTensorOnce) {
  for (const Json& config : {MoeConfig(), LatentConfig()}) {
    const ModelSpec spec = Build(config);
    for (int ranks : {1, 2, 3, 5}) {
      const std::vector<Placement> placements = Over(spec, ranks);
      ASSERT_TRUE(ValidatePlacements(spec, placements, ranks).ok());
      for (const TensorSpec& tensor : spec.tensors) {
        if (tensor.split == SplitRule::kReplicate) continue;
        int64_t next = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          const Shard shard = ShardOf(spec, tensor, placements[tensor.block], rank);
          const Range part = tensor.split == SplitRule::kColumn ? shard.rows : shard.columns;
          if (part.size() == 0) continue;
          EXPECT_EQ(part.begin, next) << tensor.name;
          next = part.end;
        }
        EXPECT_EQ(next, tensor.split == SplitRule::kColumn ? tensor.shape[0] : tensor.shape[1])
            << tensor.name << " over " << ranks;
      }
    }
  }
}

TEST(Experts, OnlyThePickedOnesAreRead) {
  const ModelSpec spec = Build(MoeConfig());
  const int block = spec.mlp_block(0);
  const int64_t expert = 3 * 48 * 64 * 2;
  const int64_t shared = 3 * 160 * 64 * 2;
  const int64_t small = 64 * 4 + 6 * 64 * 2 + 64 * 2;  // norm, router, gate of the shared ones
  EXPECT_EQ(BlockBytesPerToken(spec, block, {.ranks = {0}, .shares = {6}}, 0),
            2 * expert + shared + small);
  EXPECT_EQ(ParameterCount(spec) - ActiveParameterCount(spec), 2 * 4 * 3 * 48 * 64);
}

TEST(LatentAttention, KeepsOneVectorPerPositionOnEveryRank) {
  const ModelSpec spec = Build(LatentConfig());
  EXPECT_EQ(UnitsOf(spec, spec.attention_block(0)).count, 8);  // heads
  const EngineOptions options = {.context = 100, .batch = 3};
  for (int ranks : {1, 2}) {
    const std::vector<Placement> placements = Over(spec, ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      const MemoryLayout layout = LayOutMemory(spec, placements, rank, options);
      int64_t kv = 0;
      for (const Region& region : layout.regions) {
        if (region.kind == RegionKind::kKvCache) kv += region.bytes;
      }
      EXPECT_EQ(kv, 2 * 3 * 100 * (24 + 8) * 2) << rank << " of " << ranks;
    }
  }
  const Placement placement = {.ranks = {0, 1}, .shares = {3, 5}};
  const TensorSpec& key = *FindTensor(spec, spec.attention_block(0), TensorRole::kKeyUp);
  EXPECT_EQ(ShardOf(spec, key, placement, 0).rows.size(), 3 * 16);
  const TensorSpec& value = *FindTensor(spec, spec.attention_block(0), TensorRole::kValueUp);
  EXPECT_EQ(ShardOf(spec, value, placement, 0).rows.size(), 3 * 12);
  const TensorSpec& down = *FindTensor(spec, spec.attention_block(0), TensorRole::kKvDown);
  EXPECT_EQ(ShardOf(spec, down, placement, 1).rows.size(), 24);
  const TensorSpec& rotated = *FindTensor(spec, spec.attention_block(0), TensorRole::kKeyDown);
  EXPECT_EQ(ShardOf(spec, rotated, placement, 1).rows.size(), 8);
  const TensorSpec& out = *FindTensor(spec, spec.attention_block(0), TensorRole::kAttentionOut);
  EXPECT_EQ(ShardOf(spec, out, placement, 0).columns.size(), 3 * 12);
}

TEST(LatentAttention, NeverCutsABlockOfTheOutputProjection) {
  Json config = LatentConfig();
  config["v_head_dim"] = 16;
  const ModelSpec spec = Build(config, kQ8_0Format);
  EXPECT_EQ(UnitsOf(spec, spec.attention_block(0)).count, 4);  // pairs of heads: 32 columns
}

TEST(SecondStack, HasBlocksOfOneUnitAndACacheOfItsSteps) {
  const Json config = {{"dim", 64},
                       {"text_card", 96},
                       {"card", 32},
                       {"context", 200},
                       {"num_heads", 4},
                       {"num_layers", 2},
                       {"n_q", 3},
                       {"dep_q", 2},
                       {"hidden_scale", 4.125},
                       {"depformer_dim", 32},
                       {"depformer_dim_feedforward", 128},
                       {"depformer_num_heads", 2},
                       {"depformer_num_layers", 1}};
  const ModelSpec spec = Build(config);
  EXPECT_EQ(UnitsOf(spec, spec.attention_block(2)).count, 1);
  EXPECT_EQ(UnitsOf(spec, spec.mlp_block(2)).count, 1);
  const std::vector<Placement> placements = Over(spec, 2);
  ASSERT_TRUE(ValidatePlacements(spec, placements, 2).ok());
  int64_t kv = 0;
  for (int rank : {0, 1}) {
    for (const Region& region : LayOutMemory(spec, placements, rank, {.context = 150}).regions) {
      if (region.kind == RegionKind::kKvCache) kv += region.bytes;
    }
  }
  EXPECT_EQ(kv, 2 * (2 * 150 * 64 * 2) + 2 * 2 * 32 * 2);
}

TEST(KvTypes, BytesOfARow) {
  EngineOptions options = {.context = 10};
  const auto bytes = [&](const char* type, int64_t elements) {
    EXPECT_TRUE(SetKvType(type, options).ok()) << type;
    return KvRowBytes(options, elements);
  };
  EXPECT_EQ(bytes("q8_0", 128), 136);
  EXPECT_EQ(bytes("q8_0", 33), 68);
  EXPECT_EQ(bytes("q4_0", 64), 36);
  EXPECT_EQ(bytes("fp8", 80), 80);
  EXPECT_EQ(KvTypeName(options), "fp8_e4m3");
  EXPECT_EQ(bytes("bf16", 128), 256);
  EXPECT_EQ(bytes("f32", 128), 512);
  for (const char* bad : {"q4_k", "", "int3"}) {
    EXPECT_THAT(std::string(SetKvType(bad, options).message()), HasSubstr("bf16, fp8_e4m3, q8_0"));
  }
}

TEST(KvTypes, ThatCanOnlyBePlanned) {
  EngineOptions options = {.context = 10};
  ASSERT_TRUE(SetKvType("fp8_e5m2", options).ok());
  EXPECT_EQ(KvRowBytes(options, 128), 128);
  EXPECT_THAT(std::string(CheckRunnable(options).message()), HasSubstr("fp8_e5m2"));
  for (const std::string& name : AllKvTypes()) {
    ASSERT_TRUE(SetKvType(name, options).ok());
    EXPECT_EQ(CheckRunnable(options).ok(), name != "fp8_e5m2") << name;
  }
}

TEST(KvTypes, BlocksThatDoNotCutTheHeads) {
  ModelSpec spec;
  spec.name = "narrow";
  spec.layers.resize(1);
  spec.layers[0].attention = {.heads = 2, .kv_heads = 2, .head_dim = 80};
  EngineOptions options = {.context = 10};
  EXPECT_TRUE(CheckKvType(spec, options).ok());
  ASSERT_TRUE(SetKvType("q8_0", options).ok());
  EXPECT_EQ(
      std::string(CheckKvType(spec, options).message()),
      "a KV cache of type q8_0 is made of blocks of 32 elements; narrow keeps rows of 80 (its "
      "heads), which is no whole number of them; choose f32, f16, bf16 or fp8_e4m3");
  // Of latent attention only the latents count.
  spec.layers[0].attention.latent = {.kv_rank = 56, .rope_dim = 8};
  EXPECT_TRUE(CheckKvType(spec, options).ok());
  spec.layers[0].attention.latent.rope_dim = 16;
  EXPECT_THAT(std::string(CheckKvType(spec, options).message()), HasSubstr("72 (its latents)"));
}

}  // namespace
}  // namespace tprun
