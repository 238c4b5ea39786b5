#include <algorithm>
#include <string>

#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Layers with a sliding window keep as many positions as a chunk of tokens sees. The context of a
// model whose prompt goes through in one piece keeps all: what the others must equal.

namespace tprun {
namespace {

using ::testing::HasSubstr;

constexpr double kTolerance = 1e-4;  // sums of float32 in another order
constexpr int64_t kChunk = 3;
const char* const kModels[] = {"mistral_window", "gemma2", "gemma3", "gpt_oss"};

TestModel Golden(const std::string& name) {
  auto model = OpenTestModel(SourcePath("tests/golden/" + name));
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

std::vector<int32_t> Tokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>((i * i * 5 + i + 1) % vocab);
  return tokens;
}

EngineOptions Options(const TestModel& model, int64_t chunk, int batch = 1) {
  return {.context = std::min<int64_t>(model.spec.context_length, 512),
          .batch = batch,
          .kv_type = &kF32Format,
          .prefill_chunk = chunk};
}

int64_t KvBytes(const TestModel& model, const TestLayout& layout, const EngineOptions& options) {
  int64_t bytes = 0;
  for (int rank = 0; rank < layout.world_size; ++rank) {
    for (const Region& r :
         LayOutMemory(model.spec, layout.place(model.spec), rank, options).regions) {
      if (r.kind == RegionKind::kKvCache) bytes += r.bytes;
    }
  }
  return bytes;
}

TEST(SlidingWindows, KeepWhatTheySee) {
  for (const char* name : kModels) {
    const TestModel model = Golden(name);
    const EngineOptions options = Options(model, kChunk, 2);
    int64_t expected = 0;
    for (const LayerSpec& layer : model.spec.layers) {
      const AttentionSpec& attention = layer.attention;
      const int64_t positions =
          attention.window > 0 ? attention.window + kChunk - 1 : options.context;
      EXPECT_EQ(KvPositions(layer, options), positions);
      expected += int64_t{2 * 2 * 4} * positions * attention.kv_heads * attention.head_dim;
    }
    EXPECT_EQ(KvBytes(model, TensorSplit({1}), options), expected) << name;
    EXPECT_EQ(KvBytes(model, LayerSplit(2), options), expected) << name;
    EXPECT_LT(expected, KvBytes(model, TensorSplit({1}), Options(model, 512, 2))) << name;
  }
  LayerSpec layer;
  layer.attention.window = int64_t{1} << 62;
  EXPECT_EQ(KvPositions(layer, {.context = 100, .prefill_chunk = 7}), 100);
  layer.attention.window = 95;
  EXPECT_EQ(KvPositions(layer, {.context = 100, .prefill_chunk = 7}), 100);
  layer.attention.window = 93;
  EXPECT_EQ(KvPositions(layer, {.context = 100, .prefill_chunk = 7}), 99);
}

// Logits and greedy tokens far beyond the windows.
TEST(SlidingWindows, GiveWhatTheWholeContextGives) {
  for (const char* name : kModels) {
    const TestModel model = Golden(name);
    const int64_t count = std::min<int64_t>(model.spec.context_length, 60);
    const std::vector<int32_t> tokens = Tokens(count, model.spec.vocab);
    const std::vector<int64_t> positions = {count / 2, count - 1};
    TestOptions whole, ring;
    ring.prefill_chunk = kChunk;
    const auto expected = LogitsAt(model, TensorSplit({1}), whole, tokens, positions);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const std::vector<int32_t> prompt(tokens.begin(), tokens.begin() + count / 2);
    const auto text = GreedyTokens(model, TensorSplit({1}), whole, prompt, count / 2, {});
    ASSERT_TRUE(text.ok()) << text.status();
    for (const TestLayout& layout : AllLayouts()) {
      const auto logits = LogitsAt(model, layout, ring, tokens, positions);
      ASSERT_TRUE(logits.ok()) << logits.status();
      for (size_t i = 0; i < positions.size(); ++i) {
        EXPECT_LT(LargestDifference((*logits)[i], (*expected)[i]), kTolerance)
            << name << ", " << layout.name << ", position " << positions[i];
      }
      const auto ids = GreedyTokens(model, layout, ring, prompt, count / 2, {});
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(*ids, *text) << name << ", " << layout.name;
    }
  }
}

// Sequences that are at different places of their rings, and one that begins anew.
TEST(SlidingWindows, SequencesOfABatch) {
  const TestModel model = Golden("gemma2");
  const std::vector<int32_t> tokens = Tokens(40, model.spec.vocab);
  const absl::Span<const int32_t> all(tokens);
  TestOptions options;
  options.prefill_chunk = kChunk;
  options.batch = 2;
  const auto expected = LogitsAt(model, TensorSplit({1}), {}, tokens, {21, 29, 30});
  ASSERT_TRUE(expected.ok());
  const absl::Status status = RunEngines(
      model, TensorSplit({1, 1}), options,
      [&](Engine& engine, Communicator& world) -> absl::Status {
        const auto check = [&](size_t run, size_t which) {
          if (world.rank() != 0) return;
          const auto row = engine.logits().subspan(run * engine.spec().vocab, engine.spec().vocab);
          EXPECT_LT(LargestDifference({row.begin(), row.end()}, (*expected)[which]), kTolerance);
        };
        for (int again = 0; again < 2; ++again) {
          RETURN_IF_ERROR(engine.Forward({{1, 0, all.subspan(0, 30)}, {0, 0, all.subspan(0, 22)}}));
          check(0, 1);
          check(1, 0);
          RETURN_IF_ERROR(
              engine.Forward({{0, 22, all.subspan(22, 8)}, {1, 30, all.subspan(30, 1)}}));
          check(0, 1);
          check(1, 2);
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(SlidingWindows, GoingBack) {
  const TestModel model = Golden("mistral_window");
  const std::vector<int32_t> tokens = Tokens(40, model.spec.vocab);
  const absl::Span<const int32_t> all(tokens);
  TestOptions options;
  options.prefill_chunk = kChunk;
  const auto expected = LogitsAt(model, TensorSplit({1}), {}, tokens, {29});
  ASSERT_TRUE(expected.ok());
  const absl::Status status = RunEngines(
      model, TensorSplit({1, 1}), options,
      [&](Engine& engine, Communicator& world) -> absl::Status {
        const auto check = [&] {
          if (world.rank() != 0) return;
          EXPECT_LT(
              LargestDifference({engine.logits().begin(), engine.logits().end()}, (*expected)[0]),
              kTolerance);
        };
        RETURN_IF_ERROR(engine.Forward(all.subspan(0, 32), 0, 0));
        EXPECT_EQ(engine.Reusable(0, 32), 32);
        EXPECT_EQ(engine.Reusable(0, 29), 29);
        EXPECT_EQ(engine.Reusable(0, 28), 0);
        RETURN_IF_ERROR(engine.Forward(all.subspan(29, 1), 29, 0));
        check();
        const absl::Status refused = engine.Forward(all.subspan(20, 10), 20, 0);
        EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(refused.message()), HasSubstr("at most 3 positions"));
        // Generation takes what it may.
        GenerateOptions generate;
        generate.max_tokens = 1;
        generate.reuse = 20;
        const auto next = Generate(engine, world, all.subspan(0, 30), generate, nullptr);
        RETURN_IF_ERROR(next.status());
        const auto best = std::max_element((*expected)[0].begin(), (*expected)[0].end());
        if (world.rank() == 0) {
          EXPECT_THAT(next->ids, testing::ElementsAre(best - (*expected)[0].begin()));
        }
        EXPECT_EQ(next->fresh_tokens, 30);
        RETURN_IF_ERROR(engine.Forward(all.subspan(29, 1), 29, 0));
        check();
        engine.Forget(0);
        return engine.Forward(all.subspan(5, 1), 5, 0);
      });
  EXPECT_TRUE(status.ok()) << status;
}

// Begun anew and stopped on the way, a text leaves rows of the one before in the later layers.
TEST(SlidingWindows, StoppedOnTheWay) {
  const TestModel model = Golden("mistral_window");
  const std::vector<int32_t> tokens = Tokens(32, model.spec.vocab);
  const absl::Span<const int32_t> all(tokens);
  TestOptions options;
  options.prefill_chunk = 16;  // from where on steps ask
  const absl::Status status = RunEngines(
      model, TensorSplit({1, 1}), options, [&](Engine& engine, Communicator&) -> absl::Status {
        RETURN_IF_ERROR(engine.Forward(all, 0, 0));
        int asked = 0;
        const absl::Status stopped =
            engine.Forward({{0, 0, all.subspan(0, 16)}}, ForwardOutput::kLogits,
                           [&]() -> absl::StatusOr<bool> { return ++asked > 2; });
        EXPECT_EQ(stopped.code(), absl::StatusCode::kCancelled);
        EXPECT_EQ(engine.Reusable(0, 8), 0);
        RETURN_IF_ERROR(engine.Forward(all.subspan(0, 16), 0, 0));
        EXPECT_EQ(engine.Reusable(0, 8), 8);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

// Models without windows may go back as they like.
TEST(SlidingWindows, NoneIsNoMatter) {
  const TestModel model = Golden("llama_gqa");
  const std::vector<int32_t> tokens = Tokens(30, model.spec.vocab);
  TestOptions options;
  options.prefill_chunk = kChunk;
  const absl::Status status =
      RunEngines(model, TensorSplit({1}), options, [&](Engine& engine, Communicator&) {
        EXPECT_TRUE(engine.Forward(tokens, 0, 0).ok());
        EXPECT_EQ(engine.Reusable(0, 4), 4);
        return engine.Forward(absl::MakeConstSpan(tokens).subspan(4, 2), 4, 0);
      });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
