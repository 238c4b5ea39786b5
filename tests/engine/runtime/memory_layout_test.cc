#include "engine/runtime/memory_layout.h"

#include <set>

#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

TestModel Golden(const std::string& name) {
  auto model = OpenTestModel(SourcePath("tests/golden/" + name));
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

// Elements of a role's shards over all ranks.
int64_t ShardElements(const ModelSpec& spec, const std::vector<Placement>& placements, int ranks,
                      TensorRole role) {
  int64_t elements = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    for (const Region& region : LayOutMemory(spec, placements, rank, {.context = 16}).regions) {
      if (region.use != RegionUse::kTensor || spec.tensors[region.tensor].role != role) continue;
      elements += region.shard.rows.size() * region.shard.columns.size();
    }
  }
  return elements;
}

TEST(MemoryLayout, ShardsCoverEveryTensorOnce) {
  for (const char* name : {"llama_gqa", "llama_odd_heads", "llama_odd_vocabulary", "glm", "phi3",
                           "qwen2_moe", "deepseek_v3", "gpt_oss"}) {
    const TestModel model = Golden(name);
    for (const TestLayout& layout : AllLayouts()) {
      const auto placements = layout.place(model.spec);
      for (TensorRole role :
           {TensorRole::kEmbedding, TensorRole::kQuery, TensorRole::kAttentionOut,
            TensorRole::kGate, TensorRole::kDown, TensorRole::kHead, TensorRole::kExpertGate,
            TensorRole::kExpertDown, TensorRole::kSharedDown, TensorRole::kKeyUp,
            TensorRole::kValueUp, TensorRole::kSinks}) {
        int64_t whole = 0;
        for (const TensorSpec& tensor : model.spec.tensors) {
          if (tensor.role == role) whole += ElementCount(tensor);
        }
        EXPECT_EQ(ShardElements(model.spec, placements, layout.world_size, role), whole)
            << name << ", " << layout.name;
      }
    }
  }
}

TEST(MemoryLayout, RegionsDoNotOverlapAndFillTheirAllocation) {
  const TestModel model = Golden("llama_gqa");
  const EngineOptions options = {.context = 33, .batch = 2, .kv_type = &kF16Format};
  for (const TestLayout& layout : AllLayouts()) {
    const auto placements = layout.place(model.spec);
    for (int rank = 0; rank < layout.world_size; ++rank) {
      const MemoryLayout memory = LayOutMemory(model.spec, placements, rank, options);
      int64_t ends[3] = {0, 0, 0};
      for (const Region& region : memory.regions) {
        int64_t& end = ends[static_cast<int>(region.kind)];
        EXPECT_EQ(region.offset % kRegionAlignment, 0);
        EXPECT_GE(region.offset, end);
        EXPECT_LT(region.offset - end, kRegionAlignment);
        end = region.offset + region.bytes;
      }
      const int64_t sizes[3] = {memory.weight_bytes, memory.kv_bytes, memory.workspace_bytes};
      for (int kind = 0; kind < 3; ++kind) {
        EXPECT_GE(sizes[kind], ends[kind]);
        EXPECT_LT(sizes[kind] - ends[kind], kRegionAlignment);
      }
    }
  }
}

TEST(MemoryLayout, KvBytesAreTheFormula) {
  const TestModel model = Golden("llama_gqa");
  const AttentionSpec& attention = model.spec.layers[0].attention;
  const auto placements = TensorSplit({1, 1}).place(model.spec);
  const EngineOptions options = {.context = 64, .batch = 3, .kv_type = &kBF16Format};
  int64_t bytes = 0;
  for (int rank = 0; rank < 2; ++rank) {
    bytes += LayOutMemory(model.spec, placements, rank, options).kv_bytes;
  }
  EXPECT_EQ(bytes,
            2 * 2 * 3 * 64 * attention.kv_heads * attention.head_dim * model.spec.num_layers());
}

TEST(MemoryLayout, ATiedHeadCostsNothingWhereTheEmbeddingIs) {
  const TestModel model = Golden("llama_tied");
  ASSERT_TRUE(model.spec.tied_head);
  const auto alone = TensorSplit({1}).place(model.spec);
  const int64_t embedding =
      ShardBytes(model.spec.tensors[0], {{0, model.spec.vocab}, {0, model.spec.dim}});
  const MemoryLayout shared = LayOutMemory(model.spec, alone, 0, {.context = 8});
  // The head on the other rank: both have it.
  const auto apart = LayerSplit(2).place(model.spec);
  const MemoryLayout first = LayOutMemory(model.spec, apart, 0, {.context = 8});
  const MemoryLayout second = LayOutMemory(model.spec, apart, 1, {.context = 8});
  EXPECT_EQ(first.weight_bytes + second.weight_bytes, shared.weight_bytes + embedding);
}

TEST(MemoryLayout, ARankWithoutBlocksHasNothing) {
  const TestModel model = Golden("llama_gqa");
  const auto placements = TensorSplit({1, 1}).place(model.spec);
  EXPECT_EQ(LayOutMemory(model.spec, placements, 2, {.context = 8}).total_bytes(), 0);
}

}  // namespace
}  // namespace tprun
