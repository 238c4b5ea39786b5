#include "engine/runtime/perplexity.h"

#include <cmath>

#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

std::vector<int32_t> SomeTokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((7 + 13 * i * i) % vocab));
  return ids;
}

class PerplexityTest : public testing::Test {
 protected:
  void SetUp() override {
    auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    ids_ = SomeTokens(40, model_.spec.vocab);
  }

  absl::StatusOr<PerplexityResult> Measure(const TestLayout& layout, const TestOptions& options,
                                           const PerplexityOptions& cut) {
    PerplexityResult result;
    const absl::Status status = RunEngines(
        model_, layout, options, [&](Engine& engine, Communicator& world) -> absl::Status {
          ThreadPool pool(2);
          const bool first = world.rank() == 0;
          auto mine = MeasurePerplexity(engine, world, pool, first ? ids_ : std::vector<int32_t>(),
                                        cut, nullptr);
          if (first && mine.ok()) result = *mine;
          return mine.status();
        });
    if (!status.ok()) return status;
    return result;
  }

  // The same by the definition: every prefix of a window by itself, softmax in double.
  std::vector<double> Expected(const PerplexityOptions& cut) {
    std::vector<double> scores;
    for (int64_t begin = 0; begin + cut.window <= static_cast<int64_t>(ids_.size());
         begin += cut.stride) {
      std::vector<int32_t> window(ids_.begin() + begin, ids_.begin() + begin + cut.window);
      if (cut.bos_id >= 0) window[0] = cut.bos_id;
      std::vector<int64_t> positions;
      for (int64_t i = cut.skip; i + 1 < cut.window; ++i) positions.push_back(i);
      const auto logits =
          LogitsAt(model_, TensorSplit({1}), {.reference_kernels = true}, window, positions);
      EXPECT_TRUE(logits.ok()) << logits.status();
      for (size_t i = 0; i < positions.size(); ++i) {
        double sum = 0;
        for (float logit : (*logits)[i]) sum += std::exp(static_cast<double>(logit));
        scores.push_back(std::log(sum) - (*logits)[i][window[positions[i] + 1]]);
      }
    }
    return scores;
  }

  TestModel model_;
  std::vector<int32_t> ids_;
};

TEST_F(PerplexityTest, IsWhatItsDefinitionGivesOnEveryLayout) {
  const PerplexityOptions cuts[] = {{.window = 16, .stride = 16, .skip = 8},
                                    {.window = 16, .stride = 5, .skip = 11},
                                    {.window = 12, .stride = 12, .skip = 0, .bos_id = 1}};
  for (const PerplexityOptions& cut : cuts) {
    const std::vector<double> scores = Expected(cut);
    double mean = 0, squares = 0;
    for (double score : scores) mean += score / scores.size();
    for (double score : scores) squares += (score - mean) * (score - mean) / scores.size();
    const double error = std::exp(mean) * std::sqrt(squares / (scores.size() - 1));
    for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({5, 2, 1}), LayerSplit(2)}) {
      for (int64_t rows : {0, 3, 64}) {  // one by one, in uneven parts, a chunk at once
        const auto result =
            Measure(layout, {.prefill_chunk = rows == 3 ? 7 : 512, .logit_rows = rows}, cut);
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ(result->tokens, scores.size()) << layout.name;
        EXPECT_NEAR(result->mean_nll, mean, 1e-5) << layout.name << " rows " << rows;
        EXPECT_NEAR(result->perplexity, std::exp(mean), 1e-5 * std::exp(mean));
        EXPECT_NEAR(result->standard_error, error, 1e-4 * error);
      }
    }
  }
}

TEST_F(PerplexityTest, CountsWindows) {
  const PerplexityOptions cut = {.window = 16, .stride = 8, .skip = 4};
  EXPECT_EQ(CountWindows(cut, 15), 0);
  EXPECT_EQ(CountWindows(cut, 16), 1);
  EXPECT_EQ(CountWindows(cut, 23), 1);
  EXPECT_EQ(CountWindows(cut, 24), 2);
}

TEST_F(PerplexityTest, BadCutsAreErrorsOnEveryRank) {
  const auto fault = [&](const PerplexityOptions& cut) {
    const auto result = Measure(TensorSplit({1, 1}), {}, cut);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
    return std::string(result.status().message());
  };
  EXPECT_THAT(fault({.window = 41, .stride = 41, .skip = 20}), HasSubstr("the text has 40 tokens"));
  EXPECT_THAT(fault({.window = 1, .stride = 1, .skip = 0}), HasSubstr("at least 2 tokens"));
  EXPECT_THAT(fault({.window = 16, .stride = 0}), HasSubstr("stride"));
  EXPECT_THAT(fault({.window = 16, .stride = 16, .skip = 15}), HasSubstr("wanted 0 to 14"));
  EXPECT_THAT(fault({.window = 16, .stride = 16, .skip = -1}), HasSubstr("wanted 0 to 14"));
}

}  // namespace
}  // namespace tprun
