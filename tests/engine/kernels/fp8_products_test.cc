#include "engine/kernels/cuda/fp8_products.h"

#include <cfloat>
#include <cmath>
#include <cstring>
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

using cuda::ChooseFp8;
using cuda::Fp8Choice;
using cuda::Fp8Question;
using cuda::Fp8RowsThatFit;
using cuda::Fp8Way;

Fp8Question Possible() {
  return {.rounded = true,
          .compute_capability = 90,
          .cublaslt_version = 120900,
          .tokens = 31,
          .rows = 48,
          .columns = 256,
          .out_stride = 52};
}

TEST(ChooseFp8Test, WhatEachGpuHas) {
  // Of 31 tokens and 48 rows.
  struct Case {
    int capability;
    size_t version;
    bool row_scaled;
    Fp8Way way;
    int64_t tokens;
  };
  constexpr size_t kOld = 120805, kNew = 120900;
  constexpr Case kCases[] = {
      {75, kNew, true, Fp8Way::kNone, 0},    {80, kNew, true, Fp8Way::kNone, 0},
      {86, kNew, true, Fp8Way::kNone, 0},    {89, kOld, true, Fp8Way::kRows, 31},
      {89, kNew, true, Fp8Way::kRows, 31},   {89, kNew, false, Fp8Way::kNone, 0},
      {90, kOld, true, Fp8Way::kRows, 31},   {90, kOld, false, Fp8Way::kNone, 0},
      {90, kNew, true, Fp8Way::kGroups, 28}, {90, kNew, false, Fp8Way::kGroups, 28},
      {100, kNew, true, Fp8Way::kRows, 31},  {100, kNew, false, Fp8Way::kNone, 0},
      {120, kNew, true, Fp8Way::kRows, 31},  {120, kNew, false, Fp8Way::kNone, 0},
  };
  for (const Case& c : kCases) {
    Fp8Question q = Possible();
    q.compute_capability = c.capability;
    q.cublaslt_version = c.version;
    q.row_scaled = c.row_scaled;
    const Fp8Choice choice = ChooseFp8(q);
    EXPECT_EQ(choice.way, c.way) << c.capability << " " << c.version << " " << c.row_scaled;
    EXPECT_EQ(choice.tokens, c.tokens) << c.capability << " " << c.version << " " << c.row_scaled;
  }
}

TEST(ChooseFp8Test, WhatShapesItTakes) {
  const auto tokens = [](int capability, void (*change)(Fp8Question&)) {
    Fp8Question q = Possible();
    q.compute_capability = capability;
    q.row_scaled = true;
    change(q);
    return ChooseFp8(q).tokens;
  };
  for (const int capability : {89, 90}) {
    EXPECT_GT(tokens(capability, [](Fp8Question&) {}), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.rounded = false; }), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.rows = 34; }), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.rows = 36; }), capability == 90 ? 28 : 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.columns = 192; }), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.columns = 0; }), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.out_stride = 49; }), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.out_aligned = false; }), 0);
    // Up to 8 the kernels for few read weights once.
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.tokens = 8; }), 0);
    EXPECT_EQ(tokens(capability, [](Fp8Question& q) { q.tokens = 9; }), capability == 90 ? 8 : 9);
  }
}

TEST(ChooseFp8Test, RowsOfAPart) {
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
  // A checkpoint has a scale for each group of 128 columns, or one for all of a row.
  enum class Scales { kGroup, kRow };
  struct Case {
    int64_t rows = 0, columns = 0, tokens = 0;
    bool with_bias = false;
    bool fp8 = true;
    int capability = 90;
    Scales scales = Scales::kGroup;
    Fp8Way expected = Fp8Way::kGroups;
  };

  static std::unique_ptr<Kernels> Make(const Case& c) {
    std::unique_ptr<Device> device = MakeEmulatedDevice();
    std::unique_ptr<Kernels> kernels = MakeEmulatedCudaKernels(*device, c.capability, c.fp8);
    return MakeHostMemoryKernels(std::move(device), std::move(kernels));
  }

  std::vector<float> Random(int64_t count, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  // x as the kernel rounds it, so many values with a scale.
  static std::vector<double> Rounded(const std::vector<float>& x, int64_t together) {
    std::vector<double> rounded(x.size());
    for (size_t first = 0; first < x.size(); first += together) {
      float largest = 0;
      for (int64_t i = 0; i < together; ++i) largest = std::max(largest, std::fabs(x[first + i]));
      const bool some = largest > 1e-30f;
      const float up = some ? 448 / largest : 1, scale = some ? largest / 448 : 1;
      for (int64_t i = 0; i < together; ++i) {
        rounded[first + i] = double{FromE4M3(ToE4M3(x[first + i] * up))} * scale;
      }
    }
    return rounded;
  }

  // The blocks of each row get the scale of its first, but for the last row's last.
  static void ShareScales(std::vector<uint8_t>& bytes, int64_t rows, int64_t columns, bool all) {
    const int64_t block = kFp8Format.Bytes(cuda::kFp8Group), row_bytes = kFp8Format.Bytes(columns);
    for (int64_t at = 0; at < rows * row_bytes; at += block) {
      if (!all && at + block == rows * row_bytes) break;
      std::memcpy(&bytes[at], &bytes[at / row_bytes * row_bytes], sizeof(float));
    }
  }

  void Check(const Case& c) {
    const auto [rows, columns, tokens, with_bias, fp8, capability, scales, expected] = c;
    const std::vector<float> random = Random(rows * columns, 0.1f);
    std::vector<uint8_t> bytes(kFp8Format.Bytes(rows * columns));
    std::vector<float> w(random.size());
    kFp8Format.quantize(random.data(), bytes.data(), rows * columns);
    if (capability != 90) ShareScales(bytes, rows, columns, scales == Scales::kRow);
    kFp8Format.dequantize(bytes.data(), w.data(), rows * columns);
    std::vector<float> x = Random(tokens * columns);
    // Groups of very unlike sizes, one of zeros and one that is too small to have a scale.
    for (int64_t i = 0; i < cuda::kFp8Group; ++i) {
      x[i] *= 1e6f;
      x[columns + i] = 0;
      x[2 * columns + i] *= 1e-34f;
    }
    const std::vector<float> bias = Random(rows);
    const std::vector<double> rounded =
        Rounded(x, expected == Fp8Way::kRows ? columns : cuda::kFp8Group);
    constexpr float kUntouched = 12345;
    std::vector<float> out(tokens * rows + 1, kUntouched);
    ASSERT_TRUE(Make(c)
                    ->MatMul(x.data(), {bytes.data(), &kFp8Format, rows, columns},
                             with_bias ? bias.data() : nullptr, tokens, out.data(), rows)
                    .ok());
    for (int64_t t = 0; t < tokens; ++t) {
      const bool in_fp8 =
          expected == Fp8Way::kRows || (expected == Fp8Way::kGroups && t < tokens / 4 * 4);
      for (int64_t r = 0; r < rows; ++r) {
        double sum = with_bias ? bias[r] : 0, magnitude = std::fabs(sum);
        for (int64_t i = 0; i < columns; ++i) {
          const double of_x = in_fp8 ? rounded[t * columns + i] : x[t * columns + i];
          sum += of_x * w[r * columns + i];
          magnitude += std::fabs(of_x * w[r * columns + i]);
        }
        // As in matmul_test; what is not in fp8 but of many tokens is rounded to f16.
        const bool f16 = expected == Fp8Way::kNone;
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
    Check({4, 128, tokens, tokens == 12});
    Check({36, 384, tokens, tokens == 9});
  }
}

TEST_F(Fp8ProductTest, RoundsByTokensWhereRowsHaveOneScale) {
  for (const int capability : {89, 120}) {
    for (const int64_t tokens : {9, 31}) {
      Check({16, 128, tokens, tokens == 31, true, capability, Scales::kRow, Fp8Way::kRows});
      Check({48, 384, tokens, tokens == 9, true, capability, Scales::kRow, Fp8Way::kRows});
    }
  }
}

// Rows that are no multiple of 4, activations that must not be rounded so, and a single block whose
// scale is not its row's.
TEST_F(Fp8ProductTest, ElseDecodes) {
  Check({37, 256, 13, true, true, 90, Scales::kGroup, Fp8Way::kNone});
  Check({36, 256, 13, true, false, 90, Scales::kGroup, Fp8Way::kNone});
  Check({48, 256, 13, true, true, 89, Scales::kGroup, Fp8Way::kNone});
  Check({48, 256, 13, true, false, 89, Scales::kRow, Fp8Way::kNone});
}

}  // namespace
}  // namespace tprun
