#include "engine/runtime/generate.h"

#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

class GenerateTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    layout_ = TensorSplit(std::vector<double>(GetParam(), 1));
  }

  absl::StatusOr<GenerateResult> Run(const std::vector<int32_t>& prompt,
                                     const GenerateOptions& options, const OnToken& on_token) {
    GenerateResult result;
    const absl::Status status =
        RunEngines(model_, layout_, {}, [&](Engine& engine, Communicator& world) -> absl::Status {
          auto mine = Generate(engine, world, prompt, options, on_token);
          if (world.rank() == 0 && mine.ok()) result = *mine;
          return mine.status();
        });
    if (!status.ok()) return status;
    return result;
  }

  TestModel model_;
  TestLayout layout_;
};

TEST_P(GenerateTest, StopsAtMaxTokensEndTokenAndCaller) {
  const auto all = Run({1, 2, 3}, {.max_tokens = 10}, nullptr);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->ids.size(), 10);
  EXPECT_FALSE(all->ended);
  EXPECT_EQ(all->decode_steps, 9);
  EXPECT_EQ(all->prompt_tokens, 3);

  const auto ended = Run({1, 2, 3}, {.max_tokens = 10, .end_ids = {all->ids[4]}}, nullptr);
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(ended->ended);
  EXPECT_THAT(ended->ids, testing::Not(testing::Contains(all->ids[4])));

  int seen = 0;
  const auto told = Run({1, 2, 3}, {.max_tokens = 10}, [&](int32_t) { return ++seen < 3; });
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->ids.size(), 3);

  const auto none = Run({1, 2, 3}, {.max_tokens = 0}, nullptr);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_TRUE(none->ids.empty());
}

TEST_P(GenerateTest, IsStoppedWithinAPrompt) {
  const std::vector<int32_t> prompt(100, 5);
  int asked = 0;
  const auto stopped = Run(prompt, {.stop = [&] { return ++asked == 3; }}, nullptr);
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_TRUE(stopped->stopped);
  EXPECT_TRUE(stopped->ids.empty());
  EXPECT_EQ(asked, 3) << "no further block is run";

  asked = 0;
  const auto whole = Run(prompt, {.max_tokens = 3, .stop = [&] { return ++asked < 0; }}, nullptr);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_FALSE(whole->stopped);
  EXPECT_EQ(whole->ids.size(), 3);
  EXPECT_GT(asked, 3) << "every block, but not for single tokens";
  EXPECT_LE(asked, model_.spec.head_block());
}

TEST_P(GenerateTest, StopsAtTheEndOfTheContext) {
  const int64_t context = std::min<int64_t>(model_.spec.context_length, 512);
  const auto result = Run(std::vector<int32_t>(context - 2, 5), {.max_tokens = 100}, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->ids.size(), 3);  // two more positions, and the token after them
}

TEST_P(GenerateTest, BadPromptsAreErrorsOnEveryRank) {
  const int64_t context = std::min<int64_t>(model_.spec.context_length, 512);
  const auto empty = Run({}, {}, nullptr);
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument) << empty.status();
  const auto too_long = Run(std::vector<int32_t>(context, 5), {}, nullptr);
  EXPECT_EQ(too_long.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(too_long.status().message()), testing::HasSubstr("context"));
  const auto unknown = Run({1, static_cast<int32_t>(model_.spec.vocab)}, {}, nullptr);
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  const auto negative = Run({-1}, {}, nullptr);
  EXPECT_EQ(negative.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(GenerateTest, SequencesDoNotSeeEachOther) {
  EngineOptions options;
  options.context = 32;
  options.batch = 3;
  const std::vector<std::vector<int32_t>> prompts = {{1, 2, 3, 4}, {9, 8, 7, 6}, {5, 5, 5, 5}};
  const auto run = [&](Communicator& world,
                       bool interleaved) -> absl::StatusOr<std::vector<float>> {
    const std::unique_ptr<Device> device = MakeCpuDevice();
    ThreadPool pool(1);
    const std::unique_ptr<Kernels> kernels = MakeCpuKernels(&pool);
    auto engine = Engine::Create(model_.spec, layout_.place(model_.spec), options,
                                 {&world, device.get(), kernels.get(), &pool});
    if (!engine.ok()) return engine.status();
    absl::Status status = (*engine)->LoadWeights(*model_.checkpoint, nullptr);
    for (int position = 0; position < 4; ++position) {
      for (int sequence : interleaved ? std::vector<int>{0, 2, 1} : std::vector<int>{1}) {
        if (!status.ok()) return status;
        status = (*engine)->Forward({&prompts[sequence][position], 1}, position, sequence);
      }
    }
    if (!status.ok()) return status;
    EXPECT_FALSE((*engine)->Forward({1}, 4, 3).ok());
    return std::vector<float>((*engine)->logits().begin(), (*engine)->logits().end());
  };
  const absl::Status status =
      RunLocalRanks(GetParam(), absl::Seconds(30), [&](Communicator& world) -> absl::Status {
        const auto together = run(world, true);
        const auto alone = run(world, false);
        if (!together.ok()) return together.status();
        if (!alone.ok()) return alone.status();
        EXPECT_EQ(*together, *alone);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Worlds, GenerateTest, testing::Values(1, 2, 3));

}  // namespace
}  // namespace tprun
