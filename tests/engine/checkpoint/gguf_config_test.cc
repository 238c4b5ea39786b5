#include <cstdlib>

#include "absl/strings/numbers.h"
#include "engine/checkpoint/gguf.h"
#include "gmock/gmock.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/checkpoint/checkpoint_test_files.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

Json ConfigOf(const Json& metadata, const std::vector<TensorToWrite>& tensors = {}) {
  const TemporaryDirectory folder;
  const auto checkpoint = OpenOrDie(folder.Write("a.gguf", GgufFile(metadata, tensors)));
  return checkpoint == nullptr ? Json::object() : checkpoint->config();
}

std::string ErrorOf(const Json& metadata) {
  const TemporaryDirectory folder;
  const absl::Status status =
      Checkpoint::Open(folder.Write("a.gguf", GgufFile(metadata, {}))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

// Every field that a config.json and a GGUF file of one model both have.
void ExpectSame(const Json& gguf, const Json& hf, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    ASSERT_TRUE(gguf.contains(key)) << key;
    ASSERT_TRUE(hf.contains(key)) << key;
    EXPECT_EQ(gguf[key], hf[key]) << key;
  }
}

const std::vector<std::string> kCommon = {"hidden_size",
                                          "num_hidden_layers",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "intermediate_size",
                                          "vocab_size",
                                          "max_position_embeddings",
                                          "rope_theta",
                                          "tie_word_embeddings",
                                          "rms_norm_eps",
                                          "bos_token_id",
                                          "eos_token_id"};

TEST(GgufConfigTest, AgreesWithTheConfigOfTheSameModel) {
  TPRUN_NEEDS_TEST_DATA();
  for (const std::string name :
       {"random-gemma-tiny", "random-qwen2-tiny", "random-qwen3-tiny", "random-mixtral-tiny"}) {
    SCOPED_TRACE(name);
    const auto gguf = OpenOrDie(TinyModel(name + "/gguf/" + name + "-f32.gguf"));
    const auto hf = OpenOrDie(TinyModel(name + "/hf"));
    ExpectSame(gguf->config(), hf->config(), kCommon);
    EXPECT_EQ(gguf->config()["_name"], name);
    EXPECT_EQ(gguf->config()["_gguf"], true);
    EXPECT_FALSE(gguf->config().contains("architectures"));
  }
  const auto mixtral =
      OpenOrDie(TinyModel("random-mixtral-tiny/gguf/random-mixtral-tiny-f32.gguf"));
  EXPECT_EQ(mixtral->config()["model_type"], "llama");
  EXPECT_EQ(mixtral->config()["num_local_experts"], 4);
  EXPECT_EQ(mixtral->config()["num_experts_per_tok"], 2);
  const auto qwen2 = OpenOrDie(TinyModel("random-qwen2-tiny/gguf/random-qwen2-tiny-f32.gguf"));
  EXPECT_EQ(qwen2->config()["attention_bias"], true);
  EXPECT_EQ(qwen2->config()["head_dim"], 16);
}

// The keys of a published file, whose values the shared data has as text.
TEST(GgufConfigTest, ReadsTheKeysOfPublishedFiles) {
  TPRUN_NEEDS_TEST_DATA();
  const auto keys =
      ReadJsonFile(TestDataDirectory() + "/models/gguf-kv/Meta-Llama-3-8B-Instruct.json");
  ASSERT_TRUE(keys.ok()) << keys.status();
  Json metadata = Json::object();
  for (const auto& [key, value] : keys->items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    double number;
    if (key.find(".weight") != std::string::npos || text.size() == 64) continue;
    if (!absl::SimpleAtod(text, &number)) {
      metadata[key] = text;
    } else if (number == static_cast<int64_t>(number)) {
      metadata[key] = static_cast<int64_t>(number);
    } else {
      metadata[key] = number;
    }
  }
  const auto hf = OpenOrDie(TestDataDirectory() + "/models/configs/Meta-Llama-3-8B/config.json");
  ASSERT_NE(hf, nullptr);
  ExpectSame(ConfigOf(metadata), hf->config(),
             {"model_type", "hidden_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "intermediate_size", "vocab_size", "rope_theta",
              "max_position_embeddings", "rms_norm_eps", "bos_token_id"});
}

TEST(GgufConfigTest, FallsBackWhereKeysAreAbsent) {
  const Json metadata = {{"general.architecture", "llama"},
                         {"llama.attention.head_count", 8},
                         {"tokenizer.ggml.tokens", {"a", "b", "c"}}};
  const Json config = ConfigOf(metadata);
  EXPECT_EQ(config["num_key_value_heads"], 8);
  EXPECT_EQ(config["vocab_size"], 3);
  EXPECT_FALSE(config.contains("tie_word_embeddings"));  // no tensors, no telling
  EXPECT_FALSE(config.contains("rope_scaling"));
  const Json tied =
      ConfigOf(metadata, {MakeTensor("token_embd.weight", {4, 1}, kF32Format, {1, 2, 3, 4})});
  EXPECT_EQ(tied["vocab_size"], 4);
  EXPECT_EQ(tied["tie_word_embeddings"], true);
}

TEST(GgufConfigTest, RopeScaling) {
  Json metadata = {{"general.architecture", "llama"},
                   {"llama.rope.scaling.type", "yarn"},
                   {"llama.rope.scaling.factor", 4.0},
                   {"llama.rope.scaling.original_context_length", 4096},
                   {"llama.rope.scaling.attn_factor", 1.1}};
  EXPECT_EQ(ConfigOf(metadata)["rope_scaling"], Json({{"rope_type", "yarn"},
                                                      {"factor", 4.0},
                                                      {"original_max_position_embeddings", 4096},
                                                      {"attention_factor", 1.1}}));
  metadata["llama.rope.scaling.type"] = "none";
  EXPECT_FALSE(ConfigOf(metadata).contains("rope_scaling"));
  const Json old = {{"general.architecture", "llama"}, {"llama.rope.scale_linear", 2.0}};
  EXPECT_EQ(ConfigOf(old)["rope_scaling"], Json({{"rope_type", "linear"}, {"factor", 2.0}}));
  metadata["llama.rope.scaling.type"] = "spiral";
  EXPECT_THAT(ErrorOf(metadata), HasSubstr("wanted none, linear, yarn or longrope"));
}

TEST(GgufConfigTest, KeepsPerLayerValuesAndExactNumbers) {
  const Json config = ConfigOf({{"general.architecture", "openelm"},
                                {"openelm.attention.head_count", {12, 16}},
                                {"openelm.attention.layer_norm_rms_epsilon", 1e-5},
                                {"openelm.rope.freq_base", 10000.0},
                                {"openelm.attn_logit_softcapping", 50.0},
                                {"openelm.attention.sliding_window", 4096}});
  EXPECT_EQ(config["num_attention_heads"], Json({12, 16}));
  EXPECT_EQ(config["num_key_value_heads"], Json({12, 16}));
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);  // not the 9.99999974737875e-06 that a float holds
  EXPECT_EQ(config["attn_logit_softcapping"], 50.0);
  EXPECT_EQ(config["sliding_window"], 4096);
}

TEST(GgufConfigTest, NamesTheKeyOfAWrongValue) {
  EXPECT_THAT(ErrorOf({{"general.name", "x"}}), HasSubstr("\"general.architecture\""));
  EXPECT_THAT(ErrorOf({{"general.architecture", 7}}), HasSubstr("found 7"));
  EXPECT_THAT(ErrorOf({{"general.architecture", "llama"}, {"llama.block_count", "many"}}),
              HasSubstr("\"llama.block_count\": wanted an integer, found \"many\""));
  EXPECT_THAT(ErrorOf({{"general.architecture", "llama"}, {"llama.rope.freq_base", true}}),
              HasSubstr("wanted a number"));
}

// A config is written into plans: it must be UTF-8 whatever the file's strings are.
TEST(GgufConfigTest, NameThatIsNotUtf8) {
  const TemporaryDirectory folder;
  std::string bytes = GgufFile({{"general.architecture", "llama"}, {"general.name", "abc"}}, {});
  bytes[bytes.find("abc") + 1] = '\xff';
  const auto checkpoint = OpenOrDie(folder.Write("a.gguf", bytes));
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(checkpoint->config()["_name"], "ac");
}

}  // namespace
}  // namespace tprun
