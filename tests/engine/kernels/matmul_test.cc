#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

// A format that the kernels have no decoder for: f32 with the sign turned.
void DecodeNegated(const void* blocks, float* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = -static_cast<const float*>(blocks)[i];
}
void EncodeNegated(const float* in, void* blocks, int64_t count) {
  for (int64_t i = 0; i < count; ++i) static_cast<float*>(blocks)[i] = -in[i];
}
const WeightFormat kNegated = {"negated", -1, "", 1, 4, DecodeNegated, EncodeNegated};

struct Matrix {
  std::vector<uint8_t> bytes;
  std::vector<float> values;  // decoded
  WeightMatrix view;
};

class MatMulTest : public KernelsTest {
 protected:
  // Starts `offset` bytes into an allocation: quantised tensors lie on any address.
  Matrix MakeMatrix(const WeightFormat& format, int64_t rows, int64_t columns, int offset) {
    Matrix m;
    m.bytes.resize(format.Bytes(rows * columns) + offset);
    if (format.quantize == nullptr) {
      for (int64_t i = 0; i < rows * columns; i += format.block_elements) {
        MakeBlock(format, m.bytes.data() + offset + format.Bytes(i));
      }
    } else {
      const std::vector<float> random = Random(rows * columns);
      format.quantize(random.data(), m.bytes.data() + offset, rows * columns);
    }
    m.values.resize(rows * columns);
    format.dequantize(m.bytes.data() + offset, m.values.data(), rows * columns);
    m.view = {m.bytes.data() + offset, &format, rows, columns};
    return m;
  }

  // Random bytes that decode to values of a usual size, for formats without an encoder.
  void MakeBlock(const WeightFormat& format, uint8_t* block) {
    std::vector<float> values(format.block_elements);
    const auto usual = [](float x) { return std::fabs(x) < 100; };  // false for NaN
    const auto sizeable = [](float x) { return std::fabs(x) > 1e-3f; };
    do {
      for (int64_t i = 0; i < format.block_bytes; ++i) block[i] = static_cast<uint8_t>(random_());
      format.dequantize(block, values.data(), format.block_elements);
    } while (!std::all_of(values.begin(), values.end(), usual) ||
             !std::any_of(values.begin(), values.end(), sizeable));
  }

  // CUDA multiplies many tokens by cuBLASLt, with x rounded to bf16 (a relative 2^-8 at most) with
  // bf16 weights, else x and the weights of block formats to f16 (2^-11 each).
  double RoundingOf(const WeightFormat& format, int64_t tokens) const {
    if (!GetParam().is_cuda() || tokens <= 8 || format.name == "f32") return 0;
    if (format.name == "bf16") return std::ldexp(1, -8);
    return std::ldexp(1, format.block_elements > 1 ? -10 : -11);
  }

  // CUDA has a kernel for each format; those that it lacks it refuses.
  bool Takes(const WeightFormat& format) {
    const WeightMatrix nothing = {nullptr, &format, 0, format.block_elements};
    return !absl::IsUnimplemented(kernels_->MatMul(nullptr, nothing, nullptr, 0, nullptr, 0));
  }

  void Check(const WeightFormat& format, int64_t rows, int64_t columns, int64_t tokens,
             bool with_bias) {
    if (!Takes(format)) return;
    const std::string what = absl::StrCat(format.name, " ", rows, "x", columns, " tokens ", tokens);
    const Matrix w = MakeMatrix(format, rows, columns, format.block_elements > 1 ? 2 : 0);
    const std::vector<float> x = Random(tokens * columns);
    const std::vector<float> bias = Random(rows);
    const int64_t stride = rows + 5;
    std::vector<float> out(tokens * stride + 1, kUntouched);
    ASSERT_TRUE(kernels_
                    ->MatMul(x.data(), w.view, with_bias ? bias.data() : nullptr, tokens,
                             out.data(), stride)
                    .ok());
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) {
        double sum = with_bias ? bias[r] : 0, magnitude = std::fabs(sum);
        for (int64_t c = 0; c < columns; ++c) {
          const double product = double{x[t * columns + c]} * w.values[r * columns + c];
          sum += product;
          magnitude += std::fabs(product);
        }
        // Summed in f32: each addition rounds a partial sum, by half an ulp of at most the sum of
        // the magnitudes. Random signs make the real error far smaller than columns * that: 16
        // leaves room for it and none for a missing or doubled product of usual size.
        ExpectNear(out[t * stride + r], sum,
                   (16 * FLT_EPSILON + RoundingOf(format, tokens)) * magnitude,
                   absl::StrCat(what, " [", t, ",", r, "]"));
      }
      for (int64_t r = rows; r < stride; ++r) ASSERT_EQ(out[t * stride + r], kUntouched) << what;
    }
  }
};

struct Shape {
  int64_t rows, columns;
};

TEST_P(MatMulTest, PlainFormats) {
  for (const WeightFormat* format : {&kF32Format, &kF16Format, &kBF16Format, &kNegated}) {
    for (Shape s : {Shape{1, 1}, {1, 40}, {3, 7}, {5, 33}, {37, 257}, {70, 300}}) {
      for (int64_t tokens : {1, 2, 3, 4, 5, 11, 13, 14, 31}) {
        Check(*format, s.rows, s.columns, tokens, tokens % 2 == 0);
      }
    }
  }
}

TEST_P(MatMulTest, TakesFormats) {
  for (const WeightFormat* format : AllWeightFormats()) {
    EXPECT_TRUE(Takes(*format)) << format->name;
  }
  EXPECT_EQ(Takes(kNegated), !GetParam().is_cuda());
  if (!GetParam().is_cuda()) return;
  const float x = 1, w = 1;
  float out;
  const absl::Status status = kernels_->MatMul(&x, {&w, &kNegated, 1, 1}, nullptr, 1, &out, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("q4_0"), absl::string_view::npos) << status;
}

TEST_P(MatMulTest, BlockFormats) {
  for (const WeightFormat* format : {&kQ8_0Format, &kQ4_0Format}) {
    for (Shape s : {Shape{1, 32}, {3, 64}, {6, 544}, {37, 288}, {67, 2080}}) {
      for (int64_t tokens : {1, 2, 3, 4, 9, 13, 29}) {
        Check(*format, s.rows, s.columns, tokens, tokens % 2 == 1);
      }
    }
  }
}

TEST_P(MatMulTest, SuperBlocks) {
  for (const WeightFormat* format : {&kQ4_KFormat, &kQ5_KFormat, &kQ6_KFormat}) {
    for (Shape s : {Shape{1, 256}, {3, 512}, {37, 768}}) {
      for (int64_t tokens : {1, 2, 4, 8, 9}) {
        Check(*format, s.rows, s.columns, tokens, tokens % 2 == 1);
      }
    }
  }
}

TEST_P(MatMulTest, Larger) {
  for (const WeightFormat* format : AllWeightFormats()) {
    Check(*format, 96, 4096, 1, false);
    Check(*format, 96, 512, 200, false);
  }
  Check(kF32Format, 33, 70, 530, true);  // more tokens than are packed at a time
}

TEST_P(MatMulTest, GatedMatMul) {
  for (const WeightFormat* format :
       {&kBF16Format, &kF16Format, &kQ8_0Format, &kQ4_0Format, &kQ4_KFormat, &kQ6_KFormat}) {
    for (Shape s : {Shape{5, 64}, {37, 544}, {16, 2080}, {19, 1024}}) {
      if (s.columns % format->block_elements != 0) continue;
      for (int64_t tokens : {1, 2, 3, 8, 9}) {
        const Matrix gate = MakeMatrix(*format, s.rows, s.columns, 0);
        const Matrix up = MakeMatrix(*format, s.rows, s.columns, 0);
        const std::vector<float> x = Random(tokens * s.columns, 0.1f);
        std::vector<float> out(tokens * s.rows + 1, kUntouched), up_out = out;
        ASSERT_TRUE(kernels_
                        ->GatedMatMul(x.data(), gate.view, up.view, Activation::kSilu, tokens,
                                      out.data(), up_out.data())
                        .ok());
        for (int64_t i = 0; i < tokens * s.rows; ++i) {
          double g = 0, u = 0, magnitude = 0;
          for (int64_t c = 0; c < s.columns; ++c) {
            const double xc = x[i / s.rows * s.columns + c];
            g += xc * gate.values[i % s.rows * s.columns + c];
            u += xc * up.values[i % s.rows * s.columns + c];
            magnitude += std::fabs(xc) * (std::fabs(gate.values[i % s.rows * s.columns + c]) +
                                          std::fabs(up.values[i % s.rows * s.columns + c]));
          }
          // The bounds of Check for both sums, through a function with a slope of at most 1.1.
          const double rounding = 16 * FLT_EPSILON + RoundingOf(*format, tokens);
          const double tolerance = 1.1 * rounding * magnitude * (1 + std::fabs(g) + std::fabs(u));
          ExpectNear(out[i], g / (1 + std::exp(-g)) * u, tolerance,
                     absl::StrCat(format->name, " gated ", s.rows, "x", s.columns, " tokens ",
                                  tokens, " [", i, "]"));
        }
        EXPECT_EQ(out.back(), kUntouched);
      }
    }
  }
}

TEST_P(MatMulTest, EmptyShapes) {
  const Matrix w = MakeMatrix(kF32Format, 3, 4, 0);
  const float x[4] = {1, 2, 3, 4}, bias[3] = {5, 6, 7};
  float out[3] = {kUntouched, kUntouched, kUntouched};
  EXPECT_TRUE(kernels_->MatMul(x, w.view, nullptr, 0, out, 3).ok());
  EXPECT_TRUE(kernels_->MatMul(x, {nullptr, &kQ8_0Format, 0, 32}, nullptr, 1, out, 3).ok());
  EXPECT_EQ(out[0], kUntouched);
  EXPECT_TRUE(kernels_->MatMul(x, {nullptr, &kBF16Format, 3, 0}, bias, 1, out, 3).ok());
  EXPECT_EQ(out[0], 5);
  EXPECT_EQ(out[2], 7);
}

TEST_P(MatMulTest, RefusesCutBlocks) {
  std::vector<uint8_t> data(100);
  float x[40] = {}, out[1];
  const absl::Status status =
      kernels_->MatMul(x, {data.data(), &kQ8_0Format, 1, 40}, nullptr, 1, out, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("q8_0"), absl::string_view::npos) << status;
}

// Every f16 and bf16 pattern that a decoder could get wrong: subnormals, the largest, both signs.
TEST_P(MatMulTest, ExtremesOfHalfFormats) {
  const std::vector<uint16_t> f16 = {0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff,
                                     0x8000, 0x3c00, 0x0001, 0x8001, 0x03ff, 0x0400,
                                     0x7bff, 0xfbff, 0x8000, 0x3c00, 0x0200};
  for (const WeightFormat* format : {&kF16Format, &kBF16Format}) {
    for (size_t i = 0; i < f16.size(); ++i) {
      std::vector<float> x(f16.size(), 0);
      x[i] = 1;
      float expected, out;
      format->dequantize(&f16[i], &expected, 1);
      const WeightMatrix w{f16.data(), format, 1, static_cast<int64_t>(f16.size())};
      ASSERT_TRUE(kernels_->MatMul(x.data(), w, nullptr, 1, &out, 1).ok());
      EXPECT_EQ(out, expected) << format->name << " " << f16[i];
    }
  }
}

TEST_P(MatMulTest, Embedding) {
  for (const WeightFormat* format : AllWeightFormats()) {
    if (!Takes(*format)) continue;
    const int64_t columns = format->block_elements > 32 ? 2 * format->block_elements : 96,
                  first_row = 100;
    const Matrix table = MakeMatrix(*format, 7, columns, 0);
    const std::vector<int32_t> ids = {100, 106, 107, 99, 103, 0, -1};
    for (float scale : {1.0f, 1.5f}) {
      std::vector<float> out((ids.size() + 1) * columns, kUntouched);
      ASSERT_TRUE(
          kernels_->Embedding(table.view, ids.data(), ids.size(), first_row, scale, out.data())
              .ok());
      for (size_t t = 0; t < ids.size(); ++t) {
        const int64_t row = ids[t] - first_row;
        for (int64_t c = 0; c < columns; ++c) {
          const float expected =
              row >= 0 && row < 7 ? scale * table.values[row * columns + c] : 0.0f;
          ASSERT_EQ(out[t * columns + c], expected) << format->name << " " << t << " " << c;
        }
      }
      EXPECT_EQ(out[ids.size() * columns], kUntouched);
    }
  }
}

TPRUN_FOR_ALL_KERNELS(MatMulTest);

}  // namespace
}  // namespace tprun
