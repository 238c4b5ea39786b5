// Products with weights in tiles that meet f32 activations, against sums in double.

#include "engine/kernels/plain_tiles.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

struct Matrix {
  std::vector<uint8_t> bytes;  // as in the checkpoint, then arranged
  std::vector<float> values;
  WeightMatrix view;
};

float RoundedToBf16(float value) {
  uint16_t half;
  float result;
  kBF16Format.quantize(&value, &half, 1);
  kBF16Format.dequantize(&half, &result, 1);
  return result;
}

class PlainTilesTest : public KernelsTest {
 protected:
  void SetUp() override {
    KernelsTest::SetUp();
    if (pool_ == nullptr) GTEST_SKIP() << "no tiles here";
    exact_ = MakeCpuKernels(pool_.get(), Activations::kInt16);
    rounded_ = MakeCpuKernels(pool_.get(), Activations::kInt8);
    if (cpu::PlainUnits(kF32Format, 1).empty()) GTEST_SKIP() << "not for this instruction set";
  }

  Matrix MakeMatrix(const WeightFormat& format, int64_t rows, int64_t columns) {
    Matrix m;
    const std::vector<float> random = Random(rows * columns);
    m.bytes.resize(format.Bytes(rows * columns));
    format.quantize(random.data(), m.bytes.data(), rows * columns);
    m.values.resize(rows * columns);
    format.dequantize(m.bytes.data(), m.values.data(), rows * columns);
    m.view = {m.bytes.data(), &format, rows, columns};
    EXPECT_TRUE(exact_->ArrangeWeights(format, m.bytes.data(), rows, columns).ok());
    return m;
  }

  void Check(const WeightFormat& format, int64_t rows, int64_t columns, int64_t tokens) {
    const Matrix w = MakeMatrix(format, rows, columns);
    const std::vector<float> x = Random(tokens * columns), bias = Random(rows);
    for (Kernels* kernels : {exact_.get(), rounded_.get()}) {
      const bool rounds = kernels == rounded_.get() && &format == &kBF16Format && cpu::HasBf16Dot();
      const std::string what = absl::StrCat(format.name, " ", rows, "x", columns, " tokens ",
                                            tokens, rounds ? " rounded" : "");
      const float* given = tokens % 2 == 0 ? bias.data() : nullptr;
      const int64_t stride = rows + 5;
      std::vector<float> out(tokens * stride + 1, kUntouched);
      ASSERT_TRUE(kernels->MatMul(x.data(), w.view, given, tokens, out.data(), stride).ok());
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t r = 0; r < rows; ++r) {
          double sum = given != nullptr ? given[r] : 0, magnitude = std::fabs(sum);
          for (int64_t c = 0; c < columns; ++c) {
            const float element = x[t * columns + c];
            const double product =
                double{rounds ? RoundedToBf16(element) : element} * w.values[r * columns + c];
            sum += product;
            magnitude += std::fabs(product);
          }
          // The bound of MatMulTest.
          ExpectNear(out[t * stride + r], sum, 16 * FLT_EPSILON * magnitude,
                     absl::StrCat(what, " [", t, ",", r, "]"));
        }
        for (int64_t r = rows; r < stride; ++r) ASSERT_EQ(out[t * stride + r], kUntouched) << what;
      }
    }
  }

  std::unique_ptr<Kernels> exact_, rounded_;
};

constexpr const WeightFormat* kPlain[] = {&kF32Format, &kF16Format, &kBF16Format};

constexpr const WeightFormat* kScaled[] = {&kFp8Format, &kFp8B32Format, &kNf4Format, &kFp4Format};

TEST_P(PlainTilesTest, ScaledBlocksAgainstDouble) {
  for (const WeightFormat* format : kScaled) {
    const int64_t block = format->block_elements;
    for (int64_t rows : {1, 7, 16, 37, 70}) {
      for (int64_t tokens : {1, 2, 3, 8, 12, 13, 27}) {
        Check(*format, rows, block * (1 + tokens % 4), tokens);
      }
    }
    Check(*format, 37, 1024 + block, 31);
    Check(*format, 33, 256 + block, 520);
    Check(*format, 16, 2048, 1);
  }
}

// Each byte that a block can have, met by itself; also through a column that alone is not zero.
TEST_P(PlainTilesTest, EveryByteOfScaledBlocks) {
  for (const WeightFormat* format : kScaled) {
    const int64_t head = 4, bytes = format->block_bytes - head, rows = 256;
    Matrix w;
    w.bytes.resize(format->Bytes(rows * format->block_elements));
    for (int64_t r = 0; r < rows; ++r) {
      uint8_t* block = &w.bytes[r * format->block_bytes];
      const float scale = 1 + static_cast<float>(r) / 8;
      std::memcpy(block, &scale, sizeof(scale));
      std::fill_n(block + head, bytes, static_cast<uint8_t>(r));
    }
    w.values.resize(rows * format->block_elements);
    format->dequantize(w.bytes.data(), w.values.data(), rows * format->block_elements);
    const WeightMatrix view = {w.bytes.data(), format, rows, format->block_elements};
    ASSERT_TRUE(exact_->ArrangeWeights(*format, w.bytes.data(), rows, format->block_elements).ok());
    for (int64_t column : {int64_t{0}, int64_t{1}, format->block_elements - 1}) {
      std::vector<float> x(format->block_elements, 0), out(rows);
      x[column] = 1;
      ASSERT_TRUE(exact_->MatMul(x.data(), view, nullptr, 1, out.data(), rows).ok());
      for (int64_t r = 0; r < rows; ++r) {
        const float expected = w.values[r * format->block_elements + column];
        if (std::isnan(expected)) {
          EXPECT_TRUE(std::isnan(out[r])) << format->name << " " << r;
        } else {
          EXPECT_EQ(out[r], expected) << format->name << " " << r;
        }
      }
    }
  }
}

TEST_P(PlainTilesTest, AgainstDouble) {
  for (const WeightFormat* format : kPlain) {
    for (int64_t rows : {1, 7, 16, 37, 70}) {
      for (int64_t columns : {1, 2, 31, 64}) {
        for (int64_t tokens : {1, 2, 3, 7, 8, 12, 13, 27}) Check(*format, rows, columns, tokens);
      }
    }
    Check(*format, 37, 1029, 31);  // several blocks of columns
    Check(*format, 33, 513, 520);  // more tokens than are packed at a time
    Check(*format, 16, 2047, 1);
  }
}

TEST_P(PlainTilesTest, SeveralProjections) {
  const Matrix a = MakeMatrix(kBF16Format, 40, 131), b = MakeMatrix(kF32Format, 24, 131);
  const Matrix c = MakeMatrix(kBF16Format, 5, 131);
  for (Kernels* kernels : {exact_.get(), rounded_.get()}) {
    for (int64_t tokens : {1, 3, 20}) {
      const std::vector<float> x = Random(tokens * 131);
      std::vector<float> together(tokens * 69), alone(tokens * 69);
      const auto into = [&](std::vector<float>& out) {
        return std::vector<Projection>{{a.view, nullptr, out.data(), 69},
                                       {b.view, nullptr, out.data() + 40, 69},
                                       {c.view, nullptr, out.data() + 64, 69}};
      };
      ASSERT_TRUE(kernels->MatMuls(x.data(), into(together), tokens).ok());
      for (const Projection& p : into(alone)) {
        ASSERT_TRUE(kernels->MatMul(x.data(), p.weight, nullptr, tokens, p.out, 69).ok());
      }
      EXPECT_EQ(together, alone);
    }
  }
}

TEST_P(PlainTilesTest, EmbeddingOfArrangedRows) {
  for (const WeightFormat* format : AllWeightFormats()) {
    if (cpu::PlainUnits(*format, format->block_elements).empty()) continue;
    for (int64_t columns : {1, 33, 64}) {
      const int64_t rows = 21;
      columns *= format->block_elements;
      const Matrix table = MakeMatrix(*format, rows, columns);
      std::vector<int32_t> ids(rows);
      std::iota(ids.begin(), ids.end(), 0);
      std::vector<float> out(rows * columns);
      ASSERT_TRUE(exact_->Embedding(table.view, ids.data(), rows, 0, 1, out.data()).ok());
      EXPECT_EQ(out, table.values) << format->name;
    }
  }
}

TEST_P(PlainTilesTest, EmptyShapes) {
  const float bias[3] = {5, 6, 7};
  for (const WeightFormat* format : kPlain) {
    float out[3] = {kUntouched, kUntouched, kUntouched};
    const float x[2] = {1, 2};
    EXPECT_TRUE(exact_->MatMul(x, {nullptr, format, 0, 2}, nullptr, 1, out, 3).ok());
    EXPECT_EQ(out[0], kUntouched);
    EXPECT_TRUE(exact_->MatMul(x, {nullptr, format, 3, 0}, bias, 1, out, 3).ok());
    EXPECT_EQ(out[0], 5);
    EXPECT_EQ(out[2], 7);
  }
}

TEST_P(PlainTilesTest, RoundsToTheNearestEvenBf16) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = {1,   1.00390625f, 1.01171875f, -1.00390626f, 3e38f, 3.4e38f,
                          nan, INFINITY,    -INFINITY,   1e-40f,       0,     -0.0f};
  const std::vector<float> more = Random(25);
  x.insert(x.end(), more.begin(), more.end());
  std::vector<uint32_t> pairs(x.size() / 2 + 1);
  cpu::RoundToPairs(x.data(), static_cast<int64_t>(x.size()), pairs.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const uint32_t bits = (i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xffff0000u);
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(value));
    } else {
      EXPECT_EQ(value, RoundedToBf16(x[i])) << x[i];
    }
  }
  EXPECT_EQ(pairs.back() >> 16, 0);
}

TPRUN_FOR_ALL_KERNELS(PlainTilesTest);

}  // namespace
}  // namespace tprun
