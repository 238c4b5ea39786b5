// Products with int8 activations, against sums in double over the same rounded activations.

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/format/int_groups.h"
#include "engine/kernels/int8_ops.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

struct Matrix {
  std::vector<uint8_t> bytes;  // as in the checkpoint, then arranged
  std::vector<float> values;   // decoded
  WeightMatrix view;
};

// The rounding that the kernels promise: a scale of the largest magnitude / levels per block.
std::vector<double> Rounded(const std::vector<float>& x, int64_t block, float levels) {
  std::vector<double> rounded(x.size());
  for (size_t first = 0; first < x.size(); first += block) {
    float most = 0;
    for (int64_t i = 0; i < block; ++i) most = std::max(most, std::fabs(x[first + i]));
    const float scale = most / levels;
    const float inverse = scale > 0 ? 1 / scale : 0;
    for (int64_t i = 0; i < block; ++i) {
      rounded[first + i] = static_cast<double>(scale) * std::nearbyint(x[first + i] * inverse);
    }
  }
  return rounded;
}

class Int8MatMulTest : public KernelsTest {
 protected:
  void SetUp() override {
    KernelsTest::SetUp();
    if (pool_ == nullptr) GTEST_SKIP() << "no int8 activations here";
    kernels_ = MakeCpuKernels(pool_.get(), Activations::kInt8);
    wide_ = MakeCpuKernels(pool_.get(), Activations::kInt16);
    if (cpu::FindInt8Format(kQ8_0Format) == nullptr) GTEST_SKIP() << "not for this instruction set";
  }

  // At 2 bytes from an aligned address: quantised tensors lie anywhere.
  Matrix MakeMatrix(const WeightFormat& format, int64_t rows, int64_t columns) {
    return MakeMatrix(format, rows, columns, Random(rows * columns));
  }
  Matrix MakeMatrix(const WeightFormat& format, int64_t rows, int64_t columns,
                    const std::vector<float>& random) {
    Matrix m;
    m.bytes.resize(format.Bytes(rows * columns) + 2);
    format.quantize(random.data(), m.bytes.data() + 2, rows * columns);
    m.values.resize(rows * columns);
    format.dequantize(m.bytes.data() + 2, m.values.data(), rows * columns);
    m.view = {m.bytes.data() + 2, &format, rows, columns};
    EXPECT_TRUE(kernels_->ArrangeWeights(format, m.bytes.data() + 2, rows, columns).ok());
    return m;
  }

  void Check(const WeightFormat& format, int64_t rows, int64_t columns, int64_t tokens,
             bool with_bias) {
    const std::string what = absl::StrCat(format.name, " ", rows, "x", columns, " tokens ", tokens);
    const Matrix w = MakeMatrix(format, rows, columns);
    const std::vector<float> x = Random(tokens * columns);
    const std::vector<float> bias = Random(rows);
    for (const bool wide : {false, true})
      CheckOne(w, x, tokens, with_bias ? &bias : nullptr, wide, what);
  }

  void CheckOne(const Matrix& w, const std::vector<float>& x, int64_t tokens,
                const std::vector<float>* bias, bool wide, const std::string& what) {
    const int64_t rows = w.view.rows, columns = w.view.columns;
    const std::vector<double> rounded =
        Rounded(x, w.view.format->block_elements, wide ? 127 * 256 : 127);
    const int64_t stride = rows + 5;
    std::vector<float> out(tokens * stride + 1, kUntouched);
    ASSERT_TRUE((wide ? wide_ : kernels_)
                    ->MatMul(x.data(), w.view, bias != nullptr ? bias->data() : nullptr, tokens,
                             out.data(), stride)
                    .ok());
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) {
        double sum = bias != nullptr ? (*bias)[r] : 0, magnitude = std::fabs(sum);
        for (int64_t c = 0; c < columns; ++c) {
          const double product = rounded[t * columns + c] * w.values[r * columns + c];
          sum += product;
          magnitude += std::fabs(product);
        }
        // The bound of MatMulTest, doubled: a minimum is multiplied apart from its values, which
        // are at most twice the weights in all.
        ExpectNear(out[t * stride + r], sum, 32 * FLT_EPSILON * magnitude,
                   absl::StrCat(what, wide ? " 16 bits" : "", " [", t, ",", r, "]"));
      }
      for (int64_t r = rows; r < stride; ++r) ASSERT_EQ(out[t * stride + r], kUntouched) << what;
    }
  }

  std::unique_ptr<Kernels> wide_;  // with 16 bits

  static std::vector<const WeightFormat*> Formats() {
    std::vector<const WeightFormat*> formats;
    for (const WeightFormat* format : AllWeightFormats()) {
      if (cpu::FindInt8Format(*format) != nullptr) formats.push_back(format);
    }
    return formats;
  }
};

TEST_P(Int8MatMulTest, TakesTheBlockFormats) {
  for (const WeightFormat* format :
       {&kQ8_0Format, &kQ4_0Format, &kQ4_1Format, &kQ5_0Format, &kQ5_1Format, &kQ2_KFormat,
        &kQ3_KFormat, &kQ4_KFormat, &kQ5_KFormat, &kQ6_KFormat, &kIq4NlFormat, &kIq4XsFormat,
        &kMxfp4Format}) {
    const cpu::Int8Format* known = cpu::FindInt8Format(*format);
    ASSERT_NE(known, nullptr) << format->name;
    int64_t bytes = 0;
    for (const cpu::Units& units : known->units) bytes += units.bytes * units.count;
    EXPECT_EQ(bytes, format->block_bytes) << format->name;
  }
  EXPECT_EQ(cpu::FindInt8Format(kBF16Format), nullptr);
  EXPECT_NE(cpu::FindInt8Format(kBnbInt8Format), nullptr);
  for (const WeightFormat& format : kIntGroupFormats) {
    const cpu::Int8Format* known = cpu::FindInt8Format(format);
    ASSERT_NE(known, nullptr) << format.name;
    int64_t bytes = 0;
    for (const cpu::Units& units : known->units) bytes += units.bytes * units.count;
    EXPECT_EQ(bytes, format.block_bytes) << format.name;
  }
}

TEST_P(Int8MatMulTest, AgainstDouble) {
  for (const WeightFormat* format : Formats()) {
    const int64_t block = format->block_elements;
    for (int64_t rows : {1, 7, 16, 37, 70}) {
      for (int64_t tokens : {1, 2, 5, 9, 13}) {
        Check(*format, rows, block * (1 + tokens % 3), tokens, tokens % 2 == 1);
      }
    }
    Check(*format, 70, 2 * block, 290, true);  // more than kInt8Tokens
    Check(*format, 16, 2048, 1, false);
  }
  Check(kQ8_0Format, 33, 64, 530, true);  // more than are quantised at a time
}

// Every number of tokens that share a pass, in each way to cut them, and a panel that is not full.
TEST_P(Int8MatMulTest, FewTokens) {
  for (const WeightFormat* format : Formats()) {
    const int64_t block = format->block_elements;
    const int64_t columns = 256 + block;
    for (int64_t tokens = 2; tokens <= 20; ++tokens) {
      Check(*format, tokens % 3 == 0 ? 70 : 37, columns, tokens, tokens % 2 == 0);
    }
  }
}

// Sums in whole numbers and the parts that sums of values are cut in reach their ends.
TEST_P(Int8MatMulTest, LargestValues) {
  constexpr int64_t kRows = 32, kColumns = 512;
  for (const WeightFormat* format : Formats()) {
    for (const float low : {-1.0f, 0.0f, 1.0f}) {  // between it and 1
      std::vector<float> values = Random(kRows * kColumns);
      for (float& value : values) value = value < 0 ? low : 1;
      const Matrix w = MakeMatrix(*format, kRows, kColumns, values);
      for (const float x : {-1.0f, 1.0f}) {
        for (const bool wide : {false, true}) {
          for (int64_t tokens : {1, 8}) {
            CheckOne(w, std::vector<float>(tokens * kColumns, x), tokens, nullptr, wide,
                     absl::StrCat(format->name, " of ", low, " times ", x));
          }
        }
      }
    }
  }
}

TEST_P(Int8MatMulTest, SeveralProjections) {
  const Matrix a = MakeMatrix(kQ4_KFormat, 40, 512), b = MakeMatrix(kQ6_KFormat, 24, 512);
  const Matrix c = MakeMatrix(kQ4_KFormat, 5, 512);
  for (int64_t tokens : {1, 3, 20}) {
    const std::vector<float> x = Random(tokens * 512);
    std::vector<float> together(tokens * 69), alone(tokens * 69);
    const auto into = [&](std::vector<float>& out) {
      return std::vector<Projection>{{a.view, nullptr, out.data(), 69},
                                     {b.view, nullptr, out.data() + 40, 69},
                                     {c.view, nullptr, out.data() + 64, 69}};
    };
    ASSERT_TRUE(kernels_->MatMuls(x.data(), into(together), tokens).ok());
    for (const Projection& p : into(alone)) {
      ASSERT_TRUE(kernels_->MatMul(x.data(), p.weight, nullptr, tokens, p.out, 69).ok());
    }
    EXPECT_EQ(together, alone);
  }
}

// A rank with a part of the columns, cut at blocks, rounds them as one that has them all.
TEST_P(Int8MatMulTest, PartsOfColumnsAddUp) {
  constexpr int64_t kRows = 20, kColumns = 1024, kCut = 256;
  for (const WeightFormat* format : Formats()) {
    const std::vector<float> random = Random(kRows * kColumns), x = Random(kColumns);
    std::vector<float> sum(kRows, 0), whole(kRows);
    for (const auto& [begin, end] :
         {std::pair{kCut, kColumns}, {int64_t{0}, kCut}, {0, kColumns}}) {
      const int64_t columns = end - begin;
      std::vector<float> part, out(kRows);
      for (int64_t r = 0; r < kRows; ++r) {
        part.insert(part.end(), random.begin() + r * kColumns + begin,
                    random.begin() + r * kColumns + end);
      }
      std::vector<uint8_t> bytes(format->Bytes(kRows * columns));
      format->quantize(part.data(), bytes.data(), kRows * columns);
      ASSERT_TRUE(kernels_->ArrangeWeights(*format, bytes.data(), kRows, columns).ok());
      const WeightMatrix w{bytes.data(), format, kRows, columns};
      ASSERT_TRUE(kernels_->MatMul(x.data() + begin, w, nullptr, 1, out.data(), kRows).ok());
      std::vector<float>& to = columns == kColumns ? whole : sum;
      for (int64_t r = 0; r < kRows; ++r) to[r] += out[r];
    }
    // Sums of a thousand products of normal numbers, about 30 in size; rounding f32 alone.
    for (int64_t r = 0; r < kRows; ++r) ExpectNear(sum[r], whole[r], 1e-4, "sum of parts");
  }
}

// What rounding the activations adds: of normal numbers at most half a step of the largest / 127 of
// a block, about 3 of 32 and 2.5 of 256 values: 0.7 % and 0.6 % of the result, as root mean square.
TEST_P(Int8MatMulTest, ErrorOfRounding) {
  constexpr int64_t kRows = 64, kColumns = 2048, kTokens = 8;
  const std::unique_ptr<Kernels> exact = MakeReferenceKernels();
  for (const WeightFormat* format : Formats()) {
    const Matrix w = MakeMatrix(*format, kRows, kColumns);
    const std::vector<float> x = Random(kTokens * kColumns);
    std::vector<float> rounded(kTokens * kRows), right(kTokens * kRows);
    const WeightMatrix decoded{w.values.data(), &kF32Format, kRows, kColumns};
    ASSERT_TRUE(exact->MatMul(x.data(), decoded, nullptr, kTokens, right.data(), kRows).ok());
    for (Kernels* kernels : {kernels_.get(), wide_.get()}) {
      ASSERT_TRUE(kernels->MatMul(x.data(), w.view, nullptr, kTokens, rounded.data(), kRows).ok());
      double error = 0, size = 0;
      for (size_t i = 0; i < right.size(); ++i) {
        error += std::pow(rounded[i] - right[i], 2);
        size += std::pow(right[i], 2);
      }
      const double relative = std::sqrt(error / size);
      EXPECT_LT(relative, kernels == kernels_.get() ? 0.01 : 0.01 / 256) << format->name;
      EXPECT_GT(relative, kernels == kernels_.get() ? 1e-3 : 1e-6) << format->name;
    }
  }
}

TEST_P(Int8MatMulTest, EmbeddingOfArrangedRows) {
  for (const WeightFormat* format : Formats()) {
    const int64_t columns = 2 * format->block_elements, rows = 21;
    const Matrix table = MakeMatrix(*format, rows, columns);
    std::vector<int32_t> ids(rows);
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<float> out(rows * columns);
    ASSERT_TRUE(kernels_->Embedding(table.view, ids.data(), rows, 0, 1, out.data()).ok());
    EXPECT_EQ(out, table.values) << format->name;
  }
}

TEST_P(Int8MatMulTest, EmptyShapes) {
  const float x[32] = {}, bias[3] = {5, 6, 7};
  float out[3] = {kUntouched, kUntouched, kUntouched};
  EXPECT_TRUE(kernels_->MatMul(x, {nullptr, &kQ8_0Format, 0, 32}, nullptr, 1, out, 3).ok());
  EXPECT_TRUE(kernels_->MatMuls(x, {}, 1).ok());
  EXPECT_EQ(out[0], kUntouched);
  EXPECT_TRUE(kernels_->MatMul(x, {nullptr, &kQ8_0Format, 3, 0}, bias, 1, out, 3).ok());
  EXPECT_EQ(out[0], 5);
  EXPECT_EQ(out[2], 7);
}

TEST_P(Int8MatMulTest, WhatIsNotFiniteStaysSo) {
  const Matrix w = MakeMatrix(kQ8_0Format, 16, 64);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), INFINITY, -INFINITY}) {
    std::vector<float> x = Random(64), out(16);
    x[40] = bad;
    ASSERT_TRUE(kernels_->MatMul(x.data(), w.view, nullptr, 1, out.data(), 16).ok());
    for (float value : out) EXPECT_FALSE(std::isfinite(value));
  }
  for (float tiny : {0.0f, 1e-40f, 1e-37f}) {  // no scale, or one without a finite inverse
    std::vector<float> x(64, tiny), out(16);
    ASSERT_TRUE(kernels_->MatMul(x.data(), w.view, nullptr, 1, out.data(), 16).ok());
    for (float value : out) EXPECT_LT(std::fabs(value), 1e-34f);
  }
}

TPRUN_FOR_ALL_KERNELS(Int8MatMulTest);

}  // namespace
}  // namespace tprun
