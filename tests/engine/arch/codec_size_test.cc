#include "engine/arch/codec_size.h"

#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

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

}  // namespace
}  // namespace tprun
