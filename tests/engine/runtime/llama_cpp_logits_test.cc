#include <algorithm>
#include <cmath>

#include "engine/runtime/perplexity.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Every type of GGUF tensor against llama.cpp (tests/golden/llama_cpp/make_llama_cpp.py).

namespace tprun {
namespace {

// Differences are told as a part of the root mean square of the logits. With the weights decoded by
// the gguf library beforehand both programs compute the same: five decimals are kept.
constexpr double kWidened = 5e-6;

// As the files are, llama.cpp rounds activations before it multiplies them: to 16 bits for 16-bit
// weights, to 8 bits in blocks of 32 or, for types of 256, of 256; this program does not.
double ToleranceOf(const std::string& file) {
  if (file.find("-f32") != std::string::npos) return kWidened;
  if (file.find("-f16") != std::string::npos) return 5e-4;
  return file.find("random-llama-256") == std::string::npos ? 1e-2 : 6e-2;
}

double RootMeanSquare(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

// The relative difference from `golden` on one rank and on two.
double LargestError(const std::string& file, const std::vector<int32_t>& tokens,
                    const std::vector<float>& golden) {
  const auto model = OpenTestModel(TestDataDirectory() + "/models/tiny/" + file);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return 1;
  double largest = 0;
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 1})}) {
    const auto logits =
        LogitsAt(*model, layout, {}, tokens, {static_cast<int64_t>(tokens.size()) - 1});
    EXPECT_TRUE(logits.ok()) << logits.status();
    if (!logits.ok() || (*logits)[0].size() != golden.size()) return 1;
    std::vector<float> difference = (*logits)[0];
    for (size_t i = 0; i < golden.size(); ++i) difference[i] -= golden[i];
    largest = std::max(largest, RootMeanSquare(difference) / RootMeanSquare(golden));
  }
  return largest;
}

TEST(LlamaCppLogits, EveryTypeIsWithinItsTolerance) {
  TPRUN_NEEDS_TEST_DATA();
  const auto expected = ReadJsonFile(SourcePath("tests/golden/llama_cpp/expected.json"));
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  for (const char* kind : {"widened", "direct"}) {
    ASSERT_EQ((*expected)[kind].size(), 16);
    for (const auto& [file, golden] : (*expected)[kind].items()) {
      const double error = LargestError(file, tokens, golden.get<std::vector<float>>());
      EXPECT_LT(error, kind == std::string("widened") ? kWidened : ToleranceOf(file)) << file;
      RecordProperty(kind + ("/" + file), std::to_string(error * 1e6));
    }
  }
}

// Of 93 tokens, where what rounding does to single logits partly evens out: llama.cpp's own figure
// moves by up to 0.6 % of the trained model's 4.1, and by up to 2.5 % of the random one's 40,000,
// with its weights decoded beforehand.
constexpr double kWidenedPerplexity = 2e-6;

double PerplexityToleranceOf(const std::string& file) {
  if (file.find("-f32") != std::string::npos) return kWidenedPerplexity;
  if (file.find("-f16") != std::string::npos) return 2e-4;
  return file.find("random-llama-256") == std::string::npos ? 1e-2 : 4e-2;
}

absl::StatusOr<double> Perplexity(const std::string& file, const TestLayout& layout,
                                  const TestOptions& options, const Json& expected) {
  const auto model = OpenTestModel(TestDataDirectory() + "/models/tiny/" + file);
  if (!model.ok()) return model.status();
  const auto ids = expected["text_ids"].get<std::vector<int32_t>>();
  const auto window = expected["window"].get<int64_t>();
  const PerplexityOptions cut = {.window = window,
                                 .stride = window,
                                 .skip = window / 2,
                                 .bos_id = expected["bos"].get<int32_t>()};
  double perplexity = 0;
  const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
    ThreadPool pool(1);
    const auto result = MeasurePerplexity(engine, world, pool, ids, cut, nullptr);
    if (world.rank() == 0 && result.ok()) perplexity = result->perplexity;
    return result.status();
  };
  const absl::Status status = RunEngines(*model, layout, options, body);
  if (!status.ok()) return status;
  return perplexity;
}

TEST(LlamaCppPerplexity, EveryTypeIsWithinItsTolerance) {
  TPRUN_NEEDS_TEST_DATA();
  const auto expected = ReadJsonFile(SourcePath("tests/golden/llama_cpp/expected.json"));
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const char* kind : {"widened", "direct"}) {
    ASSERT_EQ((*expected)["perplexity"][kind].size(), 16);
    for (const auto& [file, golden] : (*expected)["perplexity"][kind].items()) {
      const bool widened = kind == std::string("widened");
      for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 2})}) {
        const auto found = Perplexity(file, layout, {.logit_rows = 16}, *expected);
        ASSERT_TRUE(found.ok()) << found.status();
        const double error = std::abs(*found / golden.get<double>() - 1);
        EXPECT_LT(error, widened ? kWidenedPerplexity : PerplexityToleranceOf(file))
            << kind << " " << file << " " << layout.name;
        RecordProperty(kind + ("/" + file), std::to_string(error * 1e9));
      }
    }
  }
}

// Rounding activations as llama.cpp does, to 8 bits, comes no nearer: blocks and scales differ.
TEST(LlamaCppPerplexity, RoundedActivationsStayWithinTheirTolerance) {
  TPRUN_NEEDS_TEST_DATA();
  const auto expected = ReadJsonFile(SourcePath("tests/golden/llama_cpp/expected.json"));
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const Activations activations : {Activations::kInt16, Activations::kInt8}) {
    for (const auto& [file, golden] : (*expected)["perplexity"]["widened"].items()) {
      const auto found = Perplexity(file, TensorSplit({1}),
                                    {.activations = activations, .logit_rows = 16}, *expected);
      ASSERT_TRUE(found.ok()) << found.status();
      const double tolerance =
          activations == Activations::kInt16 ? 1e-3 : PerplexityToleranceOf(file);
      const double error = std::abs(*found / golden.get<double>() - 1);
      EXPECT_LT(error, tolerance) << file;
      RecordProperty(file, std::to_string(error * 1e9));
    }
  }
}

}  // namespace
}  // namespace tprun
