#include <fstream>
#include <string>

#include "base/json.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// KV caches of rounded elements: every layout gives what one rank gives, near what a cache of f32
// gives. Ranks are threads.

namespace tprun {
namespace {

using ::testing::HasSubstr;

std::vector<int32_t> Tokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>((i * i * 7 + i + 3) % vocab);
  return tokens;
}

// Logits of a prompt cut into chunks, and after eight more tokens.
std::vector<std::vector<float>> Logits(const TestModel& model, const TestLayout& layout,
                                       const WeightFormat& type, bool reference = false) {
  TestOptions options;
  options.kv_type = &type;
  options.prefill_chunk = 9;
  options.reference_kernels = reference;
  const auto logits = LogitsAt(model, layout, options, Tokens(30, model.spec.vocab), {21, 29});
  EXPECT_TRUE(logits.ok()) << layout.name << ": " << logits.status();
  return logits.ok() ? *logits : std::vector<std::vector<float>>(2);
}

double Apart(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  return std::max(LargestDifference(a[0], b[0]), LargestDifference(a[1], b[1]));
}

// Of one rank against the reference, and of every layout against one rank. Other orders of sums
// change a key's or value's last bit, rarely enough, by a step of its rounding: a fraction of what
// the rounding of all of them does.
void CheckLayouts(const TestModel& model, const WeightFormat& type) {
  const auto exact = Logits(model, TensorSplit({1}), kF32Format);
  const auto alone = Logits(model, TensorSplit({1}), type);
  const double rounding = Apart(alone, exact);
  EXPECT_GT(rounding, 1e-5) << type.name << ": nothing was rounded";
  EXPECT_LT(Apart(alone, Logits(model, TensorSplit({1}), type, true)), rounding / 3) << type.name;
  for (const TestLayout& layout : AllLayouts()) {
    EXPECT_LT(Apart(Logits(model, layout, type), alone), rounding / 3)
        << model.spec.name << ", " << type.name << ", " << layout.name << ", rounding " << rounding;
  }
}

TestModel Golden(const std::string& name) {
  auto model = OpenTestModel(SourcePath("tests/golden/" + name));
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

// With random weights: a golden model's config with some values changed.
TestModel Changed(const std::string& name, const Json& changes) {
  Json config = *ReadJsonFile(SourcePath("tests/golden/" + name + "/config.json"));
  config.update(changes);
  const std::string path = testing::TempDir() + "/kv_types_" + name + ".json";
  std::ofstream(path) << config.dump();
  auto model = OpenTestModel(path);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

TEST(KvTypes, Fp8OnEveryLayout) {
  for (const char* name : {"llama_gqa", "llama_3_kv_heads", "gemma2", "deepseek_v2", "gpt_oss"}) {
    CheckLayouts(Golden(name), kE4M3Format);
  }
}

TEST(KvTypes, BlocksOnEveryLayout) {
  const TestModel model = Changed("llama_3_kv_heads", {{"head_dim", 32}, {"hidden_size", 64}});
  CheckLayouts(model, kQ8_0Format);
  CheckLayouts(model, kQ4_0Format);
}

// 24 latents and 8 rotated elements are one block.
TEST(KvTypes, BlocksOfLatentsOnEveryLayout) {
  CheckLayouts(Changed("deepseek_v2", {{"kv_lora_rank", 24}}), kQ8_0Format);
}

TEST(KvTypes, BlocksThatDoNotCutTheHeadsAreRefused) {
  TestOptions options;
  options.kv_type = &kQ8_0Format;
  for (const auto& [name, row] : {std::pair{"llama_gqa", "rows of 8"},
                                  std::pair{"deepseek_v2", "rows of 24 (its latents)"}}) {
    const auto status = LogitsAt(Golden(name), TensorSplit({1, 1}), options, {1, 2}, {1}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(row));
  }
}

// What a plan says is allocated: blocks of 34 bytes for 32 elements.
TEST(KvTypes, BytesOfTheLayout) {
  const TestModel model = Changed("llama_3_kv_heads", {{"head_dim", 64}});
  EngineOptions options = {.context = 50, .batch = 3, .kv_type = &kQ8_0Format};
  int64_t bytes = 0;
  const auto placements = TensorSplit({1, 2}).place(model.spec);
  for (int rank = 0; rank < 2; ++rank) {
    for (const Region& region : LayOutMemory(model.spec, placements, rank, options).regions) {
      if (region.kind == RegionKind::kKvCache) bytes += region.bytes;
    }
  }
  EXPECT_EQ(bytes, model.spec.num_layers() * int64_t{2 * 3 * 50 * 3 * 68});
}

}  // namespace
}  // namespace tprun
