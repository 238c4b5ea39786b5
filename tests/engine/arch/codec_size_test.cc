#include "engine/arch/codec_size.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Json> Config(const std::string& file) {
  return ReadJsonFile(TestDataDirectory() + "/models/configs/" + file);
}

// The published figures: 384.6 MB of tokenizer-e351c8d8-checkpoint125.safetensors with 32
// codebooks, 334.1 MB with the eight that Moshi uses (kyutai-labs/moshi).
TEST(CodecSize, MimiIsAsPublished) {
  TPRUN_NEEDS_TEST_DATA();
  absl::StatusOr<Json> config = Config("mimi/mimi_config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(IsCodecConfig(*config));
  const absl::StatusOr<CodecSize> all = CodecSizeOf(*config);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->parameters, 96'151'393);
  EXPECT_EQ(all->weight_bytes, 384'605'572);
  EXPECT_EQ(all->codebooks, 32);
  EXPECT_EQ(all->frames_per_s, 12.5);
  (*config)["quantizer"]["n_q"] = 8;
  EXPECT_EQ(CodecSizeOf(*config)->weight_bytes, 334'077'220);
  // 16.4 MB of it are the transformers' caches.
  EXPECT_GT(all->state_bytes, 16'384'000);
  EXPECT_LT(all->state_bytes, 17'000'000);
}

// "19.8 M parameters" (hubertsiuzdak/snac).
TEST(CodecSize, SnacIsAsPublished) {
  TPRUN_NEEDS_TEST_DATA();
  const absl::StatusOr<Json> config = Config("snac_24khz/config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(IsCodecConfig(*config));
  const absl::StatusOr<CodecSize> size = CodecSizeOf(*config);
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_EQ(size->parameters, 19'842'914);
  EXPECT_EQ(size->codebooks, 3);
  EXPECT_EQ(size->frames_per_s, 24000.0 / 512);
}

TEST(CodecSize, OtherConfigsAreNone) {
  EXPECT_FALSE(IsCodecConfig({{"model_type", "llama"}, {"seanet", 1}, {"quantizer", 1}}));
  EXPECT_FALSE(IsCodecConfig(Json::array()));
  EXPECT_FALSE(IsCodecConfig({{"vocab_size", 1}}));
}

TEST(CodecSize, BadNumbersAreNamed) {
  TPRUN_NEEDS_TEST_DATA();
  Json config = *Config("mimi/mimi_config.json");
  config["seanet"]["ratios"] = {8, 0};
  EXPECT_NE(CodecSizeOf(config).status().message().find("\"ratios\""), std::string::npos);
  config = *Config("snac_24khz/config.json");
  config["attn_window_size"] = 32;
  EXPECT_FALSE(CodecSizeOf(config).ok());
  config = *Config("snac_24khz/config.json");
  config["codebook_size"] = -1;
  EXPECT_NE(CodecSizeOf(config).status().message().find("\"codebook_size\""), std::string::npos);
}

std::string ErrorOf(Json config, const std::string& part, const std::string& key, Json value) {
  (part.empty() ? config : config[part])[key] = std::move(value);
  return std::string(CodecSizeOf(config).status().message());
}

// Beyond 64 bits, or dividing by zero, if they were taken.
TEST(CodecSize, HostileNumbersAreNamed) {
  TPRUN_NEEDS_TEST_DATA();
  const Json mimi = *Config("mimi/mimi_config.json");
  const Json snac = *Config("snac_24khz/config.json");
  const Json ones = std::vector<int>(16, 1), thousands = std::vector<int>(16, 1024);
  for (const auto& [part, key] :
       std::vector<std::pair<std::string, std::string>>{{"transformer", "d_model"},
                                                        {"transformer", "num_layers"},
                                                        {"transformer", "dim_feedforward"},
                                                        {"transformer", "context"},
                                                        {"quantizer", "n_q"},
                                                        {"seanet", "n_filters"},
                                                        {"seanet", "n_residual_layers"},
                                                        {"seanet", "residual_kernel_size"},
                                                        {"seanet", "compress"}}) {
    EXPECT_THAT(ErrorOf(mimi, part, key, 1 << 20), HasSubstr(absl::StrCat("\"", key, "\"")));
  }
  EXPECT_THAT(ErrorOf(mimi, "seanet", "ratios", ones), HasSubstr("\"ratios\""));
  EXPECT_THAT(ErrorOf(mimi, "", "frame_rate", 0), HasSubstr("\"frame_rate\""));
  EXPECT_THAT(ErrorOf(snac, "", "encoder_rates", {1024, 1024, 1024}),
              HasSubstr("\"encoder_rates\""));
  EXPECT_THAT(ErrorOf(snac, "", "encoder_rates", thousands), HasSubstr("\"encoder_rates\""));
  EXPECT_THAT(ErrorOf(snac, "", "decoder_rates", ones), HasSubstr("\"decoder_rates\""));
  Json small = snac;
  small["decoder_dim"] = 16;
  EXPECT_THAT(ErrorOf(small, "", "decoder_rates", {1, 1, 1, 1, 1}), HasSubstr("0 channels"));
}

// With the most of everything, the figures are still numbers.
TEST(CodecSize, TheLargestNumbersFit) {
  TPRUN_NEEDS_TEST_DATA();
  Json mimi = *Config("mimi/mimi_config.json");
  for (const char* key : {"d_model", "dim_feedforward", "context"}) {
    mimi["transformer"][key] = 65536;
  }
  mimi["transformer"]["num_layers"] = 1024;
  for (const char* key : {"bins", "dimension"}) mimi["quantizer"][key] = 65536;
  mimi["quantizer"]["n_q"] = 1024;
  for (const char* key :
       {"kernel_size", "residual_kernel_size", "last_kernel_size", "n_residual_layers"}) {
    mimi["seanet"][key] = 1024;
  }
  mimi["seanet"]["n_filters"] = 65536;
  mimi["seanet"]["dimension"] = 65536;
  mimi["seanet"]["compress"] = 1;
  mimi["seanet"]["ratios"] = {1024};
  const absl::StatusOr<CodecSize> size = CodecSizeOf(mimi);
  ASSERT_TRUE(size.ok()) << size.status();
  const double dim = 65536, transformers = 2 * 1024 * (6 * dim * dim + 6 * dim);
  EXPECT_GT(static_cast<double>(size->parameters), transformers);
  EXPECT_EQ(size->weight_bytes, 4 * size->parameters);
  EXPECT_GT(static_cast<double>(size->state_bytes), 4 * 2 * 1024 * 2 * dim * dim);
}

}  // namespace
}  // namespace tprun
