#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "engine/kernels/int8_ops.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// What rounding the activations does to a trained model: stories260K in every block format
// of its files, against the same weights with activations as they are.

namespace tprun {
namespace {

const std::vector<int32_t> kPrompt = {1, 403, 407, 261, 378};

class Int8Activations : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    TPRUN_NEEDS_TEST_DATA();
    if (cpu::FindInt8Format(kQ8_0Format) == nullptr) GTEST_SKIP() << "not for this machine";
    auto model = OpenTestModel(absl::StrCat(
        TestDataDirectory(), "/models/tiny/stories260K/gguf/stories260K-", GetParam(), ".gguf"));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    int8_.activations = Activations::kInt8;
    int16_.activations = Activations::kInt16;
  }

  TestModel model_;
  TestOptions exact_, int8_, int16_;
};

double RootMeanSquare(const std::vector<float>& values) {
  double sum = 0;
  for (float value : values) sum += double{value} * value;
  return std::sqrt(sum / values.size());
}

// The difference of the logits from the exact ones, as root mean squares, at its largest.
double ErrorOf(const TestModel& model, const TestOptions& exact_options,
               const TestOptions& options) {
  const std::vector<int32_t> probe = {1,   317, 269, 274, 287, 263, 377, 267, 265,
                                      282, 295, 433, 426, 342, 394, 261, 370, 400,
                                      428, 269, 366, 382, 276, 399, 393, 426};
  const std::vector<int64_t> positions = {4, 12, 25};
  const auto exact = LogitsAt(model, TensorSplit({1}), exact_options, probe, positions);
  const auto rounded = LogitsAt(model, TensorSplit({1}), options, probe, positions);
  EXPECT_TRUE(exact.ok() && rounded.ok()) << exact.status() << rounded.status();
  if (!exact.ok() || !rounded.ok()) return 1;
  double largest = 0;
  for (size_t p = 0; p < positions.size(); ++p) {
    std::vector<float> difference = (*rounded)[p];
    for (size_t i = 0; i < difference.size(); ++i) difference[i] -= (*exact)[p][i];
    largest = std::max(largest, RootMeanSquare(difference) / RootMeanSquare((*exact)[p]));
  }
  return largest;
}

// Each product adds up to 0.7 %, or 0.003 % with 16 bits (see the kernels' test); 5 layers of two
// each, partly through the residual, leave less than 2.5 % of the logits. They differ at all, or
// nothing was rounded.
TEST_P(Int8Activations, LogitsStayClose) {
  const double error8 = ErrorOf(model_, exact_, int8_), error16 = ErrorOf(model_, exact_, int16_);
  RecordProperty("error8", absl::StrCat(error8));
  RecordProperty("error16", absl::StrCat(error16));
  EXPECT_LT(error8, 0.025);
  EXPECT_GT(error8, 1e-3);
  EXPECT_LT(error16, 0.025 / 256);
  EXPECT_GT(error16, 1e-6);
}

// The default.
TEST_P(Int8Activations, SixteenBitsGiveTheSameTextInEveryLayout) {
  const auto exact = GreedyTokens(model_, TensorSplit({1}), exact_, kPrompt, 200, {1, 2});
  ASSERT_TRUE(exact.ok()) << exact.status();
  for (const TestLayout& layout : AllLayouts()) {
    const auto ids = GreedyTokens(model_, layout, int16_, kPrompt, 200, {1, 2});
    ASSERT_TRUE(ids.ok()) << layout.name << ": " << ids.status();
    EXPECT_EQ(*ids, *exact) << layout.name;
  }
}

// Eight bits, and with them the order of the sums in a layout, decide between tokens whose logits
// are near: each that is chosen is one that the exact logits put within the error of the best. Both
// logits may be off by the error, at most four times its root mean square.
TEST_P(Int8Activations, EightBitsChooseTokensAsGood) {
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 1}), TensorSplit({1, 3})}) {
    const auto ids = GreedyTokens(model_, layout, int8_, kPrompt, 60, {1, 2});
    ASSERT_TRUE(ids.ok()) << layout.name << ": " << ids.status();
    std::vector<int32_t> text = kPrompt;
    text.insert(text.end(), ids->begin(), ids->end());
    std::vector<int64_t> positions(ids->size());
    std::iota(positions.begin(), positions.end(), kPrompt.size() - 1);
    const auto exact = LogitsAt(model_, TensorSplit({1}), exact_, text, positions);
    ASSERT_TRUE(exact.ok()) << exact.status();
    for (size_t i = 0; i < ids->size(); ++i) {
      const std::vector<float>& logits = (*exact)[i];
      const float best = *std::max_element(logits.begin(), logits.end());
      EXPECT_GE(logits[(*ids)[i]], best - 2 * 4 * 0.025 * RootMeanSquare(logits))
          << layout.name << " token " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Int8Activations,
                         testing::Values("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tprun
