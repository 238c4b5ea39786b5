#include <cmath>
#include <vector>

#include "engine/kernels/kernels.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

std::vector<float> Frequencies(const RopeSpec& rope, const float* factors = nullptr) {
  std::vector<float> out(rope.dims / 2);
  InverseFrequencies(rope, factors, out.data());
  return out;
}

TEST(InverseFrequencies, ArePowersOfTheta) {
  RopeSpec rope;
  rope.dims = 8;
  EXPECT_EQ(Frequencies(rope), (std::vector<float>{1, 0.1f, 0.01f, 0.001f}));
  rope.scaling = RopeScaling::kLinear;
  rope.factor = 4;
  EXPECT_EQ(Frequencies(rope), (std::vector<float>{0.25f, 0.025f, 0.0025f, 0.00025f}));
}

TEST(InverseFrequencies, AreDividedByFactors) {
  RopeSpec rope;
  rope.dims = 4;
  const float factors[] = {2, 8};
  EXPECT_EQ(Frequencies(rope, factors), (std::vector<float>{0.5f, 0.00125f}));
}

TEST(InverseFrequencies, LongRopeHasFactorsForEitherSideOfItsContext) {
  RopeSpec rope;
  rope.dims = 4;
  rope.factors = {1, 2};
  EXPECT_EQ(FactorsFor(rope, 1000), rope.factors);
  rope.scaling = RopeScaling::kLongRope;
  rope.original_context_length = 64;
  rope.long_factors = {4, 8};
  EXPECT_EQ(FactorsFor(rope, 64), rope.factors);
  EXPECT_EQ(FactorsFor(rope, 65), rope.long_factors);
  EXPECT_EQ(Frequencies(rope, rope.long_factors.data()), (std::vector<float>{0.25f, 0.00125f}));
}

TEST(InverseFrequencies, OfNoDimensions) {
  RopeSpec rope;
  EXPECT_TRUE(Frequencies(rope).empty());
}

// Llama 3.2 1B: theta 500000, head 64, factor 32. The bands by wavelength 2 pi / f: kept below
// 8192 / 4, stretched above 8192, between them along a line in 8192 / wavelength.
TEST(InverseFrequencies, Llama3Bands) {
  RopeSpec rope;
  rope.dims = 64;
  rope.theta = 500000;
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = 32;
  rope.original_context_length = 8192;
  const std::vector<float> scaled = Frequencies(rope);
  int kept = 0, between = 0, stretched = 0;
  for (int i = 0; i < 32; ++i) {
    const double plain = std::pow(500000.0, -i / 32.0);
    const double wavelength = 2 * M_PI / plain;
    double expected = plain;
    if (wavelength < 2048) {
      ++kept;
    } else if (wavelength > 8192) {
      ++stretched;
      expected /= 32;
    } else {
      ++between;
      const double s = (8192 / wavelength - 1) / 3;
      expected *= (1 - s) / 32 + s;
    }
    EXPECT_FLOAT_EQ(scaled[i], static_cast<float>(expected)) << i;
  }
  EXPECT_EQ(kept, 15);
  EXPECT_EQ(between, 3);
  EXPECT_EQ(stretched, 14);
}

}  // namespace
}  // namespace tprun
