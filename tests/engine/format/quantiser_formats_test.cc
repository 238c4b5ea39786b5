#include <cmath>
#include <string>
#include <vector>

#include "engine/format/fp8_bits.h"
#include "engine/format/int_groups.h"
#include "engine/format/weight_format.h"
#include "gtest/gtest.h"
#include "tests/fnv1a.h"

namespace tprun {
namespace {

// Made by make_iq_hashes.py, which says how the blocks are drawn.
struct CodeBookCase {
  const char* name;
  int high_byte;
  uint64_t hash;
};

constexpr CodeBookCase kCases[] = {
    {"iq1_s", 1, 0x4d449586a9b1e3efu},   {"iq1_m", 55, 0xb067f62760c5442cu},
    {"iq2_xxs", 1, 0xb2ac98512cad0a5eu}, {"iq2_xs", 1, 0x5c19958923beb0dfu},
    {"iq2_s", 1, 0x1edd495e344890f8u},   {"iq3_xxs", 1, 0x0d6e3ffce43fdbe9u},
    {"iq3_s", 1, 0xc1706e12ae1ff6dfu},   {"tq1_0", 53, 0x6c44246231a39cd1u},
    {"tq2_0", 65, 0x37e18db9cc4e83b2u},
};

class CodeBookFormat : public testing::TestWithParam<CodeBookCase> {};

TEST_P(CodeBookFormat, DecodesAsTheGgufLibraryDoes) {
  const WeightFormat& format = *FindWeightFormat(GetParam().name);
  constexpr int kBlocks = 64;
  std::string blocks;
  uint64_t state = 42;
  for (int64_t i = 0; i < kBlocks * format.block_bytes; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto byte = static_cast<uint8_t>(state >> 56);
    const bool high = i % format.block_bytes == GetParam().high_byte;
    blocks.push_back(static_cast<char>(high ? byte & 0xbf : byte));
  }
  std::vector<float> values(kBlocks * format.block_elements);
  format.dequantize(blocks.data(), values.data(), static_cast<int64_t>(values.size()));
  EXPECT_EQ(Fnv1a({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}),
            GetParam().hash);
  EXPECT_EQ(format.quantize, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Formats, CodeBookFormat, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Fp8, EveryPatternIsItsOwnNearest) {
  for (int bits = 0; bits < 256; ++bits) {
    const float value = FromE4M3(static_cast<uint8_t>(bits));
    if (std::isnan(value)) {
      EXPECT_EQ(bits & 0x7f, 0x7f);
      EXPECT_EQ(ToE4M3(value) & 0x7f, 0x7f);
    } else {
      EXPECT_EQ(ToE4M3(value), bits);
    }
  }
}

TEST(Fp8, RoundsToNearestEvenAndSaturates) {
  EXPECT_EQ(FromE4M3(0x7e), 448.0f);
  EXPECT_EQ(FromE4M3(0x01), 0x1p-9f);
  EXPECT_EQ(FromE4M3(ToE4M3(1e9f)), 448.0f);
  EXPECT_EQ(FromE4M3(ToE4M3(-500)), -448.0f);
  EXPECT_EQ(FromE4M3(ToE4M3(17)), 16.0f);  // halfway between 16 and 18
  EXPECT_EQ(FromE4M3(ToE4M3(19)), 20.0f);
  EXPECT_EQ(FromE4M3(ToE4M3(1.9999f)), 2.0f);  // the carry
  EXPECT_EQ(FromE4M3(ToE4M3(0x1p-10f)), 0.0f);
  EXPECT_EQ(FromE4M3(ToE4M3(1.1f * 0x1p-10f)), 0x1p-9f);
}

TEST(IntGroups, TheLargestGroupThatDividesIsTaken) {
  EXPECT_EQ(FindIntGroupFormat(4, 4096, DType::kF16), FindWeightFormat("int4_g128"));
  EXPECT_EQ(FindIntGroupFormat(4, 64, DType::kBF16), FindWeightFormat("int4_g64_bf16"));
  EXPECT_EQ(FindIntGroupFormat(4, 96, DType::kF16), FindWeightFormat("int4_g32"));
  EXPECT_EQ(FindIntGroupFormat(8, 64, DType::kF32), FindWeightFormat("int8_g32_f32"));
  EXPECT_EQ(FindIntGroupFormat(4, 16, DType::kF16), nullptr);
  EXPECT_EQ(FindIntGroupFormat(4, 128, DType::kF32), nullptr);
  EXPECT_EQ(FindWeightFormat("int4_g128")->Bytes(256), 2 * (2 + 1 + 64));
}

}  // namespace
}  // namespace tprun
