#include "engine/kernels/cuda/fp8_products.h"

#include <cfloat>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/format/fp8_bits.h"
#include "engine/format/weight_format.h"
#include "engine/kernels/make_kernels.h"
#include "gtest/gtest.h"
#include "tests/cuda_emulation/emulated_device.h"
#include "tests/engine/kernels/host_memory_kernels.h"

// Products of fp8 weights with activations rounded to fp8: which tokens go that way, and what the
// kernels around cuBLASLt make of them.

namespace tprun {
namespace {

using cuda::Fp8Question;
using cuda::Fp8RowsThatFit;
using cuda::TokensInFp8;

Fp8Question Possible() {
  return {.rounded = true,
          .compute_capability = 90,
          .cublaslt_version = 120900,
          .tokens = 31,
          .rows = 36,
          .columns = 256,
          .out_stride = 40};
}

TEST(TokensInFp8Test, WholeFours) {
  Fp8Question q = Possible();
  EXPECT_EQ(TokensInFp8(q), 28);
  q.tokens = 9;
  EXPECT_EQ(TokensInFp8(q), 8);
  q.tokens = 8;  // for which weights are read once by the kernels for few
  EXPECT_EQ(TokensInFp8(q), 0);
}

TEST(TokensInFp8Test, NoneWhereCublasLtHasNoSuchProduct) {
  const auto none = [](void (*change)(Fp8Question&)) {
    Fp8Question q = Possible();
    change(q);
    return TokensInFp8(q) == 0;
  };
  EXPECT_TRUE(none([](Fp8Question& q) { q.rounded = false; }));
  for (const int other : {75, 80, 86, 89, 100, 120}) {
    Fp8Question q = Possible();
    q.compute_capability = other;
    EXPECT_EQ(TokensInFp8(q), 0) << other;
  }
  EXPECT_TRUE(none([](Fp8Question& q) { q.cublaslt_version = 120805; }));
  EXPECT_TRUE(none([](Fp8Question& q) { q.rows = 34; }));
  EXPECT_TRUE(none([](Fp8Question& q) { q.columns = 192; }));
  EXPECT_TRUE(none([](Fp8Question& q) { q.columns = 0; }));
  EXPECT_TRUE(none([](Fp8Question& q) { q.out_stride = 41; }));
  EXPECT_TRUE(none([](Fp8Question& q) { q.out_aligned = false; }));
}

TEST(TokensInFp8Test, RowsOfAPart) {
  EXPECT_EQ(Fp8RowsThatFit(132 * 64, 128), 64);
  EXPECT_EQ(Fp8RowsThatFit(132 * 64 - 1, 128), 60);
  EXPECT_EQ(Fp8RowsThatFit(132 * 130, 128), 128);
  EXPECT_EQ(Fp8RowsThatFit(132 * 4 - 1, 128), 0);
  EXPECT_EQ(Fp8RowsThatFit(int64_t{64} << 20, 16384), 3968);
}

TEST(Fp8ActivationsTest, WhereDeclaredOrAskedFor) {
  EXPECT_TRUE(Fp8Activations(Activations::kInt16, true));
  EXPECT_FALSE(Fp8Activations(Activations::kInt16, false));
  EXPECT_TRUE(Fp8Activations(Activations::kInt8, false));
  EXPECT_FALSE(Fp8Activations(Activations::kF32, true));
}

class Fp8ProductTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Kernels> Make(bool fp8) {
    std::unique_ptr<Device> device = MakeEmulatedDevice();
    std::unique_ptr<Kernels> kernels = MakeEmulatedCudaKernels(*device, 90, fp8);
    return MakeHostMemoryKernels(std::move(device), std::move(kernels));
  }

  std::vector<float> Random(int64_t count, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  // x as the kernel rounds it.
  static std::vector<double> Rounded(const std::vector<float>& x) {
    std::vector<double> rounded(x.size());
    for (size_t first = 0; first < x.size(); first += cuda::kFp8Group) {
      float largest = 0;
      for (int i = 0; i < cuda::kFp8Group; ++i)
        largest = std::max(largest, std::fabs(x[first + i]));
      const bool some = largest > 1e-30f;
      const float up = some ? 448 / largest : 1, scale = some ? largest / 448 : 1;
      for (int i = 0; i < cuda::kFp8Group; ++i) {
        rounded[first + i] = double{FromE4M3(ToE4M3(x[first + i] * up))} * scale;
      }
    }
    return rounded;
  }

  void Check(int64_t rows, int64_t columns, int64_t tokens, bool with_bias, bool fp8,
             bool expect_rounded) {
    const std::vector<float> random = Random(rows * columns, 0.1f);
    std::vector<uint8_t> bytes(kFp8Format.Bytes(rows * columns));
    std::vector<float> w(random.size());
    kFp8Format.quantize(random.data(), bytes.data(), rows * columns);
    kFp8Format.dequantize(bytes.data(), w.data(), rows * columns);
    std::vector<float> x = Random(tokens * columns);
    // Groups of very unlike sizes, one of zeros and one that is too small to have a scale.
    for (int64_t i = 0; i < cuda::kFp8Group; ++i) {
      x[i] *= 1e6f;
      x[columns + i] = 0;
      x[2 * columns + i] *= 1e-34f;
    }
    const std::vector<float> bias = Random(rows);
    const std::vector<double> rounded = Rounded(x);
    constexpr float kUntouched = 12345;
    std::vector<float> out(tokens * rows + 1, kUntouched);
    ASSERT_TRUE(Make(fp8)
                    ->MatMul(x.data(), {bytes.data(), &kFp8Format, rows, columns},
                             with_bias ? bias.data() : nullptr, tokens, out.data(), rows)
                    .ok());
    for (int64_t t = 0; t < tokens; ++t) {
      const bool in_fp8 = expect_rounded && t < tokens / 4 * 4;
      for (int64_t r = 0; r < rows; ++r) {
        double sum = with_bias ? bias[r] : 0, magnitude = std::fabs(sum);
        for (int64_t c = 0; c < columns; ++c) {
          const double of_x = in_fp8 ? rounded[t * columns + c] : x[t * columns + c];
          sum += of_x * w[r * columns + c];
          magnitude += std::fabs(of_x * w[r * columns + c]);
        }
        // As in matmul_test; what is not in fp8 but of many tokens is rounded to f16.
        const bool f16 = !in_fp8 && !expect_rounded;
        const double tolerance = (16 * FLT_EPSILON + (f16 ? 0x1p-10 : 0)) * magnitude;
        EXPECT_LE(std::fabs(out[t * rows + r] - sum), tolerance)
            << rows << "x" << columns << " token " << t << " of " << tokens << ", row " << r;
      }
    }
    EXPECT_EQ(out.back(), kUntouched);
  }

 private:
  std::mt19937 random_{3};
};

TEST_F(Fp8ProductTest, RoundsByGroupsAndKeepsTheScalesOfWeights) {
  for (const int64_t tokens : {9, 12, 31}) {
    Check(4, 128, tokens, tokens == 12, true, true);
    Check(36, 384, tokens, tokens == 9, true, true);
  }
}

// Rows that are no multiple of 4, and activations that must not be rounded so.
TEST_F(Fp8ProductTest, ElseDecodes) {
  Check(37, 256, 13, true, true, false);
  Check(36, 256, 13, true, false, false);
}

}  // namespace
}  // namespace tprun
