#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

class ElementwiseTest : public KernelsTest {};

const int64_t kCounts[] = {0, 1, 7, 16, 33, 1000, 40001};

TEST_P(ElementwiseTest, NameSaysTheInstructionSet) {
  const std::string name(kernels_->name());
  if (GetParam().threads == 0) {
    EXPECT_EQ(name, "reference");
  } else if (GetParam().target == HWY_AVX2 || GetParam().target == HWY_SSE4) {
    EXPECT_EQ(name, absl::StrCat("cpu (", hwy::TargetName(GetParam().target), ")"));
  } else {
    EXPECT_TRUE(absl::StartsWith(name, "cpu (")) << name;
  }
}

TEST_P(ElementwiseTest, RmsNorm) {
  for (int64_t dim : {1, 5, 16, 100, 2048}) {
    for (int64_t tokens : {0, 1, 3, 40}) {
      for (bool unit_offset : {false, true}) {
        const std::vector<float> x = Random(tokens * dim), w = Random(dim);
        const NormSpec norm{0.01f, unit_offset};
        std::vector<float> out(tokens * dim + 1, kUntouched), in_place = x;
        ASSERT_TRUE(kernels_->RmsNorm(x.data(), w.data(), tokens, dim, norm, out.data()).ok());
        ASSERT_TRUE(
            kernels_->RmsNorm(in_place.data(), w.data(), tokens, dim, norm, in_place.data()).ok());
        for (int64_t t = 0; t < tokens; ++t) {
          double squares = 0;
          for (int64_t i = 0; i < dim; ++i) squares += std::pow(double{x[t * dim + i]}, 2);
          for (int64_t i = 0; i < dim; ++i) {
            const double expected = x[t * dim + i] / std::sqrt(squares / dim + double{0.01f}) *
                                    (w[i] + (unit_offset ? 1.0 : 0.0));
            // A few roundings of f32, and 1 + w where they cancel.
            ExpectNear(out[t * dim + i], expected, 2e-6 * (std::fabs(expected) + 1), "norm");
            ASSERT_EQ(out[t * dim + i], in_place[t * dim + i]);
          }
        }
        EXPECT_EQ(out.back(), kUntouched);
      }
    }
  }
}

TEST_P(ElementwiseTest, Rope) {
  for (RopeLayout layout : {RopeLayout::kHalfSplit, RopeLayout::kInterleaved, RopeLayout::kNone}) {
    for (int dims : {0, 2, 10, 64}) {
      const int heads = 3, head_dim = 67;
      const int64_t tokens = 9, stride = heads * head_dim + 4, first = 100000;
      RopeSpec rope;
      rope.layout = layout;
      rope.dims = dims;
      std::vector<float> frequency(dims / 2);
      InverseFrequencies(rope, nullptr, frequency.data());
      const std::vector<float> x = Random(tokens * stride);
      std::vector<float> out = x;
      ASSERT_TRUE(
          kernels_->Rope(out.data(), tokens, heads, head_dim, stride, rope, frequency.data(), first)
              .ok());
      std::vector<double> expected(x.begin(), x.end());
      for (int64_t t = 0; layout != RopeLayout::kNone && t < tokens; ++t) {
        for (int h = 0; h < heads; ++h) {
          for (int i = 0; i < dims / 2; ++i) {
            const int64_t at = t * stride + h * head_dim;
            const int64_t a = at + (layout == RopeLayout::kInterleaved ? 2 * i : i);
            const int64_t b = layout == RopeLayout::kInterleaved ? a + 1 : a + dims / 2;
            const double angle = double(first + t) * frequency[i];
            expected[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
            expected[b] = x[a] * std::sin(angle) + x[b] * std::cos(angle);
          }
        }
      }
      // Two products and a sum of values up to about 4, in f32.
      for (size_t i = 0; i < x.size(); ++i) ExpectNear(out[i], expected[i], 1e-6, "rope");
    }
  }
}

TEST_P(ElementwiseTest, RopeRefusesMoreThanAHead) {
  RopeSpec rope;
  float x[8] = {}, frequency[8] = {};
  for (int dims : {10, 3, -2}) {
    rope.dims = dims;
    EXPECT_EQ(kernels_->Rope(x, 1, 1, 8, 8, rope, frequency, 0).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(ElementwiseTest, GatedActivation) {
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (int64_t count : kCounts) {
      const std::vector<float> gate = Random(count, 3), up = Random(count);
      std::vector<float> out = gate;
      ASSERT_TRUE(kernels_->GatedActivation(activation, out.data(), up.data(), count).ok());
      for (int64_t i = 0; i < count; ++i) {
        const double x = gate[i];
        const double z = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
        // 1 + tanh(z) = 2 / (1 + exp(-2 z)), which keeps its digits for negative z.
        const double act =
            activation == Activation::kSilu ? x / (1 + std::exp(-x)) : x / (1 + std::exp(-2 * z));
        // exp's argument reaches 100 in magnitude, where an f32 ulp is 8e-6.
        const double expected = act * up[i];
        ExpectNear(out[i], expected, 2e-6 * (1 + std::fabs(2 * z)) * std::fabs(expected) + 1e-30,
                   absl::StrCat("activation of ", gate[i]));
      }
    }
  }
}

TEST_P(ElementwiseTest, ActivationOfExtremes) {
  const std::vector<float> gates = {-1e30f, -1000, -100, -88.5f, 0, 88.5f, 100, 1000};
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    std::vector<float> out = gates, up(gates.size(), 1);
    ASSERT_TRUE(kernels_->GatedActivation(activation, out.data(), up.data(), out.size()).ok());
    for (size_t i = 1; i < gates.size(); ++i) {
      ExpectNear(out[i], gates[i] > 0 ? gates[i] : 0, gates[i] > 0 ? 0 : 1e-30, "extreme");
    }
    EXPECT_TRUE(std::fabs(out[0]) < 1e-4f) << out[0];  // 1e30 / exp(88)
  }
}

TEST_P(ElementwiseTest, Add) {
  for (int64_t count : kCounts) {
    const std::vector<float> x = Random(count), y = Random(count);
    std::vector<float> out = x;
    ASSERT_TRUE(kernels_->Add(out.data(), y.data(), count).ok());
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(out[i], x[i] + y[i]);
  }
}

TEST_P(ElementwiseTest, Softcap) {
  for (int64_t count : kCounts) {
    const std::vector<float> x = Random(count, 40);
    std::vector<float> out = x;
    ASSERT_TRUE(kernels_->Softcap(out.data(), count, 30).ok());
    for (int64_t i = 0; i < count; ++i) {
      const double expected = 30 * std::tanh(double{x[i]} / 30);
      ExpectNear(out[i], expected, 1e-6 * std::fabs(expected), "softcap");
    }
  }
}

TPRUN_FOR_ALL_KERNELS(ElementwiseTest);

}  // namespace
}  // namespace tprun
