#include <cmath>
#include <limits>
#include <string>
#include <utility>
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
  if (GetParam().is_cuda()) {
    EXPECT_TRUE(absl::StartsWith(name, "cuda (sm_")) << name;
  } else if (GetParam().threads == 0) {
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
      const OwnedBatch batch(first, tokens);
      ASSERT_TRUE(
          kernels_->Rope(out.data(), batch.batch(), heads, head_dim, stride, rope, frequency.data())
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

// Angles of a position may be kept from one call to the next.
TEST_P(ElementwiseTest, RopeOfOnePositionByOtherFrequenciesAndMagnitudes) {
  const std::vector<float> x = Random(2);
  const std::pair<float, float> steps[] = {{0.5f, 1}, {0.5f, 1.5f}, {0.25f, 1.5f}};
  for (const auto& [frequency, magnitude] : steps) {  // one changes at a time
    RopeSpec rope;
    rope.dims = 2;
    rope.magnitude = magnitude;
    std::vector<float> out = x;
    ASSERT_TRUE(
        kernels_->Rope(out.data(), OwnedBatch(7, 1).batch(), 1, 2, 2, rope, &frequency).ok());
    const double c = magnitude * std::cos(7.0 * frequency);
    const double s = magnitude * std::sin(7.0 * frequency);
    ExpectNear(out[0], x[0] * c - x[1] * s, 1e-6, "rope");
    ExpectNear(out[1], x[0] * s + x[1] * c, 1e-6, "rope");
  }
}

TEST_P(ElementwiseTest, RopeRefusesMoreThanAHead) {
  RopeSpec rope;
  float x[8] = {}, frequency[8] = {};
  for (int dims : {10, 3, -2}) {
    rope.dims = dims;
    EXPECT_EQ(kernels_->Rope(x, OwnedBatch(0, 1).batch(), 1, 8, 8, rope, frequency).code(),
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

TEST_P(ElementwiseTest, ArgMaxIsTheFirstOfTheLargestFiniteOnes) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (int64_t columns : {1, 7, 1000, 40001}) {
    const int64_t rows = 3, last = columns - 1;
    std::vector<float> x = Random(rows * columns);
    x[0] = kNan;
    if (columns > 2) x[1] = kInf;
    for (int64_t i : {columns / 2, last}) x[columns + i] = 100;  // equals
    for (int64_t i = 0; i < columns; ++i) x[2 * columns + i] = i % 2 == 0 ? -kInf : kNan;
    std::vector<BestLogit> best(rows + 1, {kUntouched, 77});
    ASSERT_TRUE(kernels_->ArgMax(x.data(), rows, columns, 5, best.data()).ok());
    BestLogit expected;
    for (int64_t i = 0; i < columns; ++i) {
      if (std::isfinite(x[i]) && (expected.id < 0 || x[i] > expected.logit)) {
        expected = {x[i], static_cast<int32_t>(5 + i)};
      }
    }
    EXPECT_EQ(best[0].id, expected.id);
    if (expected.id >= 0) {
      EXPECT_EQ(best[0].logit, expected.logit);
    }
    EXPECT_EQ(best[1].id, 5 + columns / 2);
    EXPECT_EQ(best[1].logit, 100);
    EXPECT_EQ(best[2].id, -1);
    EXPECT_EQ(best[3].id, 77);
  }
  std::vector<float> negative = {-3, -2, -2};
  BestLogit best;
  ASSERT_TRUE(kernels_->ArgMax(negative.data(), 1, 3, 0, &best).ok());
  EXPECT_EQ(best.id, 1);
  ASSERT_TRUE(kernels_->ArgMax(negative.data(), 1, 0, 0, &best).ok());  // an empty share
  EXPECT_EQ(best.id, -1);
}

// The steps of several ops are those ops one after the other, within the rounding of an op.
TEST_P(ElementwiseTest, StepsOfSeveralOps) {
  const int64_t tokens = 3, dim = 40, rows = 17;
  const std::vector<float> x = Random(tokens * dim), w = Random(dim), bias = Random(rows);
  const std::vector<float> m1 = Random(rows * dim), m2 = Random(rows * dim);
  const WeightMatrix a = {m1.data(), &kF32Format, rows, dim},
                     b = {m2.data(), &kF32Format, rows, dim};
  const NormSpec norm{0.01f, true};
  const auto expect = [](const std::vector<float>& got, const std::vector<float>& wanted,
                         const char* what) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ExpectNear(got[i], wanted[i], 1e-5 * (1 + std::fabs(wanted[i])), what);
    }
  };
  std::vector<float> one(tokens * rows), two(tokens * rows), both(tokens * (2 * rows + 1), 9);
  std::vector<float> apart = both;
  ASSERT_TRUE(kernels_->MatMul(x.data(), a, bias.data(), tokens, &apart[0], 2 * rows + 1).ok());
  ASSERT_TRUE(kernels_->MatMul(x.data(), b, nullptr, tokens, &apart[rows], 2 * rows + 1).ok());
  ASSERT_TRUE(kernels_
                  ->MatMuls(x.data(),
                            {{a, bias.data(), &both[0], 2 * rows + 1},
                             {b, nullptr, &both[rows], 2 * rows + 1}},
                            tokens)
                  .ok());
  expect(both, apart, "MatMuls");

  ASSERT_TRUE(kernels_->MatMul(x.data(), a, nullptr, tokens, one.data(), rows).ok());
  ASSERT_TRUE(kernels_->MatMul(x.data(), b, nullptr, tokens, two.data(), rows).ok());
  ASSERT_TRUE(
      kernels_->GatedActivation(Activation::kSilu, one.data(), two.data(), tokens * rows).ok());
  std::vector<float> gated(tokens * rows), up(tokens * rows);
  ASSERT_TRUE(
      kernels_->GatedMatMul(x.data(), a, b, Activation::kSilu, tokens, gated.data(), up.data())
          .ok());
  expect(gated, one, "GatedMatMul");

  std::vector<float> residual = x, sum = x, y = Random(tokens * dim), out(tokens * dim);
  std::vector<float> expected(tokens * dim), in_place = y;
  ASSERT_TRUE(kernels_->Add(sum.data(), y.data(), tokens * dim).ok());
  ASSERT_TRUE(kernels_->RmsNorm(sum.data(), w.data(), tokens, dim, norm, expected.data()).ok());
  ASSERT_TRUE(
      kernels_->AddRmsNorm(residual.data(), y.data(), w.data(), tokens, dim, norm, out.data())
          .ok());
  expect(residual, sum, "AddRmsNorm: residual");
  expect(out, expected, "AddRmsNorm");
  residual = x;
  ASSERT_TRUE(kernels_
                  ->AddRmsNorm(residual.data(), in_place.data(), w.data(), tokens, dim, norm,
                               in_place.data())
                  .ok());
  expect(in_place, expected, "AddRmsNorm in place");

  // Two heads of 20 per token, with 0 floats between tokens; then with one head left out.
  std::vector<float> heads = x;
  ASSERT_TRUE(kernels_->RmsNorm(x.data(), w.data(), 2 * tokens, 20, norm, expected.data()).ok());
  ASSERT_TRUE(kernels_->HeadNorm(heads.data(), w.data(), tokens, 2, 20, dim, norm).ok());
  expect(heads, expected, "HeadNorm");
  heads = x;
  ASSERT_TRUE(kernels_->HeadNorm(heads.data(), w.data(), tokens, 1, 20, dim, norm).ok());
  for (int64_t i = 0; i < tokens * dim; ++i) {
    ExpectNear(heads[i], i % dim < 20 ? expected[i] : x[i], 1e-5, "HeadNorm of one head");
  }

  std::vector<float> biased = x;
  ASSERT_TRUE(kernels_->AddBias(biased.data(), w.data(), tokens, dim).ok());
  for (int64_t i = 0; i < tokens * dim; ++i) ASSERT_EQ(biased[i], x[i] + w[i % dim]);
}

TEST_P(ElementwiseTest, SumsOfParts) {
  for (int64_t dim : {1, 5, 16, 100, 2048}) {
    for (int64_t tokens : {0, 1, 3, 40}) {
      for (size_t ranks : {1, 2, 5}) {
        const int64_t count = tokens * dim;
        std::vector<std::vector<float>> parts;
        std::vector<const float*> at;
        std::vector<double> sums(count);
        for (size_t r = 0; r < ranks; ++r) parts.push_back(Random(count + 1));
        for (const std::vector<float>& part : parts) {
          at.push_back(part.data());
          for (int64_t i = 0; i < count; ++i) sums[i] += part[i];
        }
        const std::vector<float> x = Random(count), w = Random(dim);
        const NormSpec norm{0.01f, /*unit_offset=*/true};
        std::vector<float> residual = x, alone = x, out(count + 1, kUntouched);
        ASSERT_TRUE(
            kernels_->SumPartsRmsNorm(at, residual.data(), w.data(), tokens, dim, norm, out.data())
                .ok());
        ASSERT_TRUE(
            kernels_->SumPartsRmsNorm(at, alone.data(), nullptr, tokens, dim, norm, nullptr).ok());
        EXPECT_EQ(alone, residual);
        EXPECT_EQ(out[count], kUntouched);
        for (int64_t t = 0; t < tokens; ++t) {
          double squares = 0;
          for (int64_t i = t * dim; i < (t + 1) * dim; ++i) {
            const double sum = x[i] + sums[i];
            squares += sum * sum;
            ExpectNear(residual[i], sum, 1e-5, "the residual");
          }
          const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + 0.01);
          for (int64_t i = 0; i < dim; ++i) {
            const double wanted = (x[t * dim + i] + sums[t * dim + i]) * scale * (1.0 + w[i]);
            ExpectNear(out[t * dim + i], wanted, 1e-4, "the norm");
          }
        }
        std::vector<float>& in_place = parts[ranks / 2];
        const float beyond = in_place[count];
        ASSERT_TRUE(kernels_->SumParts(at, count, in_place.data()).ok());
        for (int64_t i = 0; i < count; ++i) ExpectNear(in_place[i], sums[i], 1e-5, "the sum");
        EXPECT_EQ(in_place[count], beyond);
      }
    }
  }
}

TPRUN_FOR_ALL_KERNELS(ElementwiseTest);

}  // namespace
}  // namespace tprun
