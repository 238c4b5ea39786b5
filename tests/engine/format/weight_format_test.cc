#include "engine/format/weight_format.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/ascii.h"
#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

std::string ReadVector(const std::string& name) {
  absl::StatusOr<std::string> bytes =
      ReadFile(TestDataDirectory() + "/models/quant-vectors/" + name);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.ok() ? *bytes : "";
}

std::vector<float> Decode(const WeightFormat& format, const std::string& blocks) {
  std::vector<float> out(blocks.size() / format.block_bytes * format.block_elements);
  format.dequantize(blocks.data(), out.data(), out.size());
  return out;
}

std::string Encode(const WeightFormat& format, const std::vector<float>& in) {
  std::string blocks(format.Bytes(in.size()), '\0');
  format.quantize(in.data(), blocks.data(), in.size());
  return blocks;
}

class QuantVectorTest : public ::testing::TestWithParam<const WeightFormat*> {};

TEST_P(QuantVectorTest, DecodesBitForBit) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string name = absl::AsciiStrToUpper(GetParam()->name);
  const std::string expected = ReadVector(name + ".dequant.f32");
  const std::vector<float> decoded = Decode(*GetParam(), ReadVector(name + ".blocks.bin"));
  ASSERT_GT(decoded.size(), 10000);
  ASSERT_EQ(decoded.size() * sizeof(float), expected.size());
  EXPECT_EQ(std::memcmp(decoded.data(), expected.data(), expected.size()), 0);
}

// sqrt(sum((decoded - source)^2) / sum(source^2)).
double RelativeError(const std::vector<float>& decoded, const std::vector<float>& source) {
  double error = 0;
  double squares = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    error += (decoded[i] - source[i]) * (decoded[i] - source[i]);
    squares += source[i] * source[i];
  }
  return std::sqrt(error / squares);
}

// Our search for scales is not ggml's; it must not be worse by more than a hundredth.
TEST_P(QuantVectorTest, EncodesAsWellAsGgmlDoes) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string name = absl::AsciiStrToUpper(GetParam()->name);
  const std::vector<float> source = Floats(ReadVector(name + ".source.f32"));
  const std::vector<float> ours = Decode(*GetParam(), Encode(*GetParam(), source));
  const std::vector<float> ggml = Decode(*GetParam(), ReadVector(name + ".blocks.bin"));
  ASSERT_GT(source.size(), 10000);
  EXPECT_LE(RelativeError(ours, source), 1.01 * RelativeError(ggml, source));
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantVectorTest,
                         ::testing::Values(&kQ8_0Format, &kQ4_0Format, &kQ4_1Format, &kQ5_0Format,
                                           &kQ5_1Format, &kQ2_KFormat, &kQ3_KFormat, &kQ4_KFormat,
                                           &kQ5_KFormat, &kQ6_KFormat, &kIq4NlFormat, &kIq4XsFormat,
                                           &kMxfp4Format),
                         [](const auto& info) { return std::string(info.param->name); });

class PlainQuantVectorTest : public ::testing::TestWithParam<const WeightFormat*> {};

TEST_P(PlainQuantVectorTest, EncodesAsGgmlDoes) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string name = absl::AsciiStrToUpper(GetParam()->name);
  const std::string encoded = Encode(*GetParam(), Floats(ReadVector(name + ".source.f32")));
  ASSERT_GT(encoded.size(), 9000);
  EXPECT_EQ(encoded, ReadVector(name + ".blocks.bin").substr(0, encoded.size()));
}

INSTANTIATE_TEST_SUITE_P(Formats, PlainQuantVectorTest,
                         ::testing::Values(&kQ8_0Format, &kQ4_0Format, &kQ4_1Format, &kQ5_0Format,
                                           &kQ5_1Format),
                         [](const auto& info) { return std::string(info.param->name); });

// What a value in [-1, 1] may lose: half a step of the format, with room for coarse scales.
float StepOf(const WeightFormat& format) {
  const std::map<const WeightFormat*, float> steps = {
      {&kQ8_0Format, 0.0045f}, {&kQ4_0Format, 0.13f},  {&kQ4_1Format, 0.07f},
      {&kQ5_0Format, 0.07f},   {&kQ5_1Format, 0.035f}, {&kQ2_KFormat, 0.4f},
      {&kQ3_KFormat, 0.3f},    {&kQ4_KFormat, 0.09f},  {&kQ5_KFormat, 0.05f},
      {&kQ6_KFormat, 0.035f},  {&kIq4NlFormat, 0.14f}, {&kIq4XsFormat, 0.14f},
      {&kMxfp4Format, 0.26f},  {&kFp8Format, 0.036f},  {&kFp8B32Format, 0.036f},
      {&kNf4Format, 0.16f},    {&kFp4Format, 0.17f},   {&kBnbInt8Format, 0.004f},
  };
  if (format.name.substr(0, 4) == "int4") return 0.072f;
  if (format.name.substr(0, 4) == "int8") return 0.0085f;  // a scale in bf16
  const auto found = steps.find(&format);
  return found == steps.end() ? 0.002f : found->second;
}

class AnyFormatTest : public ::testing::TestWithParam<const WeightFormat*> {};
class EncodableFormatTest : public AnyFormatTest {};

std::vector<const WeightFormat*> Encodable() {
  std::vector<const WeightFormat*> formats;
  for (const WeightFormat* format : AllWeightFormats()) {
    if (format->quantize != nullptr) formats.push_back(format);
  }
  return formats;
}

TEST_P(EncodableFormatTest, DecodesWhatItEncoded) {
  const WeightFormat& format = *GetParam();
  std::vector<float> in(format.block_elements * 3);
  for (size_t i = 0; i < in.size(); ++i) in[i] = std::sin(static_cast<float>(i) + 0.5f);
  const std::vector<float> out = Decode(format, Encode(format, in));
  ASSERT_EQ(out.size(), in.size());
  const float tolerance = StepOf(format);
  for (size_t i = 0; i < in.size(); ++i) EXPECT_NEAR(out[i], in[i], tolerance) << i;
}

TEST_P(EncodableFormatTest, WorksFromAnyAddress) {
  const WeightFormat& format = *GetParam();
  std::vector<float> in(format.block_elements * 2, 0.25f);
  const std::string blocks = Encode(format, in);
  const std::string shifted = "x" + blocks;
  std::vector<float> out(in.size());
  format.dequantize(shifted.data() + 1, out.data(), out.size());
  EXPECT_EQ(out, Decode(format, blocks));
}

TEST_P(EncodableFormatTest, NanAndInfinityAreNotUndefined) {
  const WeightFormat& format = *GetParam();
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::max()}) {
    std::vector<float> in(format.block_elements * 2, 1.0f);
    in[0] = bad;
    EXPECT_EQ(Encode(format, in).size(), format.Bytes(in.size()));
  }
}

TEST_P(AnyFormatTest, IsFoundByEveryName) {
  const WeightFormat* format = GetParam();
  EXPECT_EQ(FindWeightFormat(format->name), format);
  EXPECT_EQ(*ParseWeightFormat(absl::AsciiStrToUpper(format->name)), format);
  if (format->ggml_type >= 0) {
    EXPECT_EQ(FindGgmlType(format->ggml_type), format);
  }
  if (!format->safetensors.empty()) {
    EXPECT_EQ(FindSafetensorsType(format->safetensors), format);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, EncodableFormatTest, ::testing::ValuesIn(Encodable()),
                         [](const auto& info) { return std::string(info.param->name); });
INSTANTIATE_TEST_SUITE_P(Formats, AnyFormatTest, ::testing::ValuesIn(AllWeightFormats()),
                         [](const auto& info) { return std::string(info.param->name); });

// Signed scales of groups of 16 use their whole range: what a block can hold comes back.
TEST(WeightFormatTest, BlocksOfSignedScalesComeBackAsTheyWere) {
  for (const auto& [format, levels, least] :
       {std::tuple(&kQ3_KFormat, 8, -32), std::tuple(&kQ6_KFormat, 64, -128)}) {
    std::vector<float> in(256);
    for (int i = 0; i < 256; ++i) {
      const int scale = least + i / 16 * (-least / 8);  // from the least on, of both signs
      const int level = i % 16 == 0 ? 0 : (i * 37 + 11) % levels;
      in[i] = static_cast<float>(scale * (level - levels / 2)) / 64;
    }
    EXPECT_EQ(Decode(*format, Encode(*format, in)), in) << format->name;
  }
}

TEST(WeightFormatTest, BitPatternsOfSixteenBitFormats) {
  EXPECT_EQ(Encode(kBF16Format, {1.0f}), std::string("\x80\x3f", 2));
  EXPECT_EQ(Encode(kF16Format, {1.0f}), std::string("\x00\x3c", 2));
  // Halfway between two bf16 values: to the even one.
  EXPECT_EQ(Encode(kBF16Format, {1.00390625f, 1.01171875f}), std::string("\x80\x3f\x82\x3f", 4));
  // The smallest subnormal half.
  EXPECT_EQ(Decode(kF16Format, std::string("\x01\x00", 2))[0], std::ldexp(1.0f, -24));
}

TEST(WeightFormatTest, BytesCountsWholeBlocks) {
  EXPECT_EQ(kQ8_0Format.Bytes(64), 68);
  EXPECT_EQ(kQ4_0Format.Bytes(int64_t{1} << 40), (int64_t{1} << 40) / 32 * 18);
  EXPECT_EQ(kF32Format.Bytes(0), 0);
}

TEST(WeightFormatTest, UnknownNameListsThoseThereAre) {
  EXPECT_EQ(FindWeightFormat("fp7"), nullptr);
  EXPECT_EQ(FindGgmlType(-1), nullptr);
  EXPECT_EQ(FindSafetensorsType(""), nullptr);
  const absl::StatusOr<const WeightFormat*> format = ParseWeightFormat("fp7");
  EXPECT_EQ(format.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(format.status().message()), HasSubstr("f32, f16, bf16, q8_0, q4_0"));
  EXPECT_THAT(std::string(format.status().message()), HasSubstr("\"fp7\""));
  // Mixtures can be made; what can only be planned is told apart.
  EXPECT_THAT(std::string(format.status().message()),
              HasSubstr("; mixtures q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m; only"));
  EXPECT_THAT(std::string(format.status().message()), HasSubstr("; to plan also nvfp4"));
}

}  // namespace
}  // namespace tprun
