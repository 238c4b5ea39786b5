#include <cmath>

#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Every type of GGUF tensor against llama.cpp (tests/golden/llama_cpp/make_llama_cpp.py).

namespace tprun {
namespace {

// Of the root mean square of the logits. llama.cpp rounds activations to blocks of 8 bits before it
// multiplies them with quantised weights, 16-bit ones to their type; this program does not.
double ToleranceOf(const std::string& file) {
  if (file.find("f32") != std::string::npos) return 2e-6;
  if (file.find("-f16") != std::string::npos) return 1e-3;
  return 2e-2;
}

double RootMeanSquare(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

TEST(LlamaCppLogits, EveryTypeIsWithinItsTolerance) {
  TPRUN_NEEDS_TEST_DATA();
  const auto expected = ReadJsonFile(SourcePath("tests/golden/llama_cpp/expected.json"));
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  ASSERT_EQ((*expected)["files"].size(), 16);
  for (const auto& [file, golden] : (*expected)["files"].items()) {
    const auto model = OpenTestModel(TestDataDirectory() + "/models/tiny/" + file);
    ASSERT_TRUE(model.ok()) << model.status();
    for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 1})}) {
      const auto logits =
          LogitsAt(*model, layout, {}, tokens, {static_cast<int64_t>(tokens.size()) - 1});
      ASSERT_TRUE(logits.ok()) << logits.status();
      const auto wanted = golden.get<std::vector<float>>();
      ASSERT_EQ((*logits)[0].size(), wanted.size());
      std::vector<float> difference = (*logits)[0];
      for (size_t i = 0; i < wanted.size(); ++i) difference[i] -= wanted[i];
      const double relative = RootMeanSquare(difference) / RootMeanSquare(wanted);
      EXPECT_LT(relative, ToleranceOf(file)) << file << " " << layout.name;
      RecordProperty(file, std::to_string(relative));
    }
  }
}

}  // namespace
}  // namespace tprun
