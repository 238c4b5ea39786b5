#include <algorithm>
#include <cmath>

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

}  // namespace
}  // namespace tprun
