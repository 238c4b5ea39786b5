#include "base/units.h"

#include <cstdint>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(FormatBytes, HasThreeToFourDigits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(640), "640 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(kKiB), "1.00 KiB");
  EXPECT_EQ(FormatBytes(512 * kMiB), "512.0 MiB");
  EXPECT_EQ(FormatBytes(12036696965), "11.21 GiB");
  EXPECT_EQ(FormatBytes(1000 * kMiB), "1000 MiB");
  EXPECT_EQ(FormatBytes(kGiB - 1), "1.00 GiB");
  EXPECT_EQ(FormatBytes(-2 * kGiB), "-2.00 GiB");
  EXPECT_EQ(FormatBytes(std::numeric_limits<int64_t>::max()), "8192 PiB");
}

TEST(ParseBytes, ReadsUnits) {
  EXPECT_EQ(*ParseBytes("1024"), 1024);
  EXPECT_EQ(*ParseBytes("10GiB"), 10 * kGiB);
  EXPECT_EQ(*ParseBytes(" 512 MiB "), 512 * kMiB);
  EXPECT_EQ(*ParseBytes("24GB"), 24'000'000'000);
  EXPECT_EQ(*ParseBytes("1.5 gib"), 3 * kGiB / 2);
  EXPECT_EQ(*ParseBytes("8g"), 8 * kGiB);
  EXPECT_EQ(*ParseBytes("0"), 0);
  EXPECT_EQ(*ParseBytes("640 B"), 640);
  EXPECT_EQ(*ParseBytes("9223372036854775807"), std::numeric_limits<int64_t>::max());
}

class ParseBytesError : public testing::TestWithParam<const char*> {};

TEST_P(ParseBytesError, NamesTheAcceptedForms) {
  const auto result = ParseBytes(GetParam());
  ASSERT_FALSE(result.ok()) << GetParam() << " was read as " << *result;
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), testing::HasSubstr("24GiB, 512 MiB"));
}

INSTANTIATE_TEST_SUITE_P(Texts, ParseBytesError,
                         testing::Values("", " ", "GiB", "-1", "-1GiB", "1.2.3GiB", "12 parsecs",
                                         "1e9", "0x10", "1.5", "1 GiB x", ".", "nan", "inf",
                                         "9223372036854775808", "9000000000TiB", "24 GB/s"));

TEST(ParseBytes, ReadsWhatFormatBytesWrites) {
  for (int64_t bytes : {int64_t{0}, int64_t{999}, 3 * kKiB, 512 * kMiB, 24 * kGiB}) {
    EXPECT_EQ(*ParseBytes(FormatBytes(bytes)), bytes);
  }
}

TEST(FormatBandwidth, UsesPowersOfTen) {
  EXPECT_EQ(FormatBandwidth(34e9), "34.0 GB/s");
  EXPECT_EQ(FormatBandwidth(936e9), "936 GB/s");
  EXPECT_EQ(FormatBandwidth(4800e9), "4800 GB/s");
  EXPECT_EQ(FormatBandwidth(12e12), "12.0 TB/s");
  EXPECT_EQ(FormatBandwidth(1.25e9), "1.25 GB/s");
  EXPECT_EQ(FormatBandwidth(12.5e6), "12.5 MB/s");
  EXPECT_EQ(FormatBandwidth(0), "0.0 GB/s");
}

TEST(FormatDuration, PicksTheUnit) {
  EXPECT_EQ(FormatDuration(532e-9), "532 ns");
  EXPECT_EQ(FormatDuration(12.3e-6), "12.3 us");
  EXPECT_EQ(FormatDuration(4.56e-3), "4.56 ms");
  EXPECT_EQ(FormatDuration(1.2), "1.20 s");
  EXPECT_EQ(FormatDuration(999.9e-9), "1.00 us");
  EXPECT_EQ(FormatDuration(0), "0 ns");
  EXPECT_EQ(FormatDuration(3600), "3600 s");
}

TEST(FormatCount, SeparatesThousands) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
  EXPECT_EQ(FormatCount(-123456), "-123,456");
  EXPECT_EQ(FormatCount(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

}  // namespace
}  // namespace tprun
