#include "base/dtype.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// IEEE 754 binary16 by its definition, in double.
double HalfByDefinition(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(DTypeTest, NamesAndSizes) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const auto parsed = ParseDType(DTypeName(dtype));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, dtype);
  }
  EXPECT_EQ(SizeOf(DType::kF32), 4u);
  EXPECT_EQ(SizeOf(DType::kF16), 2u);
  EXPECT_EQ(SizeOf(DType::kBF16), 2u);
  for (const char* name : {"", "f64", "bf"}) {
    const auto parsed = ParseDType(name);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(parsed.status().message()), ::testing::HasSubstr("bf16"));
  }
}

TEST(Float16Test, EveryValueIsReadByTheStandardAndSurvivesTheWayBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    const Float16 half = {static_cast<uint16_t>(bits)};
    const double wanted = HalfByDefinition(half.bits);
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(ToFloat(half))) << bits;
      ASSERT_TRUE(std::isnan(HalfByDefinition(ToFloat16(ToFloat(half)).bits))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(ToFloat(half)), wanted) << bits;
    ASSERT_EQ(ToFloat16(ToFloat(half)).bits, half.bits);
  }
}

// Between two neighbours: below the middle goes down, above goes up, the middle to the even one.
TEST(Float16Test, RoundsToNearestEven) {
  for (int bits = 0; bits < 0x7bff; ++bits) {
    const double low = HalfByDefinition(static_cast<uint16_t>(bits));
    const double high = HalfByDefinition(static_cast<uint16_t>(bits + 1));
    const float middle = static_cast<float>((low + high) / 2);  // exact: 12 bits of mantissa
    ASSERT_EQ(ToFloat16(middle).bits, bits + (bits & 1)) << bits;
    ASSERT_EQ(ToFloat16(std::nextafter(middle, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(ToFloat16(std::nextafter(middle, 1e6f)).bits, bits + 1) << bits;
    ASSERT_EQ(ToFloat16(-middle).bits, (bits + (bits & 1)) | 0x8000) << bits;
  }
}

TEST(Float16Test, OverflowBecomesInfinity) {
  EXPECT_EQ(ToFloat16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(ToFloat16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(ToFloat16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(ToFloat16(1e30f).bits, 0x7c00);
  EXPECT_EQ(ToFloat16(-kInfinity).bits, 0xfc00);
  EXPECT_EQ(ToFloat16(1e-30f).bits, 0);
}

TEST(BFloat16Test, EveryValueSurvivesTheWayBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    const BFloat16 value = {static_cast<uint16_t>(bits)};
    if (std::isnan(ToFloat(value))) {
      ASSERT_TRUE(std::isnan(ToFloat(ToBFloat16(ToFloat(value))))) << bits;
    } else {
      ASSERT_EQ(ToBFloat16(ToFloat(value)).bits, value.bits);
    }
  }
}

TEST(BFloat16Test, RoundsToNearestEven) {
  EXPECT_EQ(ToBFloat16(FromBits(0x3f808000)).bits, 0x3f80);
  EXPECT_EQ(ToBFloat16(FromBits(0x3f808001)).bits, 0x3f81);
  EXPECT_EQ(ToBFloat16(FromBits(0x3f818000)).bits, 0x3f82);
  EXPECT_EQ(ToBFloat16(FromBits(0x3f817fff)).bits, 0x3f81);
  EXPECT_EQ(ToBFloat16(FromBits(0x7f7fffff)).bits, 0x7f80) << "rounds up to infinity";
  EXPECT_EQ(ToBFloat16(-kInfinity).bits, 0xff80);
}

TEST(BFloat16Test, NanStaysQuietNan) {
  // Only low mantissa bits are set: cutting them off would make it infinity.
  const uint16_t bits = ToBFloat16(FromBits(0x7f800001)).bits;
  EXPECT_EQ(bits & 0x7f80, 0x7f80);
  EXPECT_NE(bits & 0x0040, 0);
  EXPECT_TRUE(std::isnan(ToFloat(ToBFloat16(std::nanf("")))));
}

}  // namespace
}  // namespace tprun
