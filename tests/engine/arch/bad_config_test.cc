#include <cstdlib>
#include <filesystem>

#include "engine/arch/architecture.h"
#include "engine/arch/assume_formats.h"
#include "engine/arch/read_model_spec.h"
#include "gmock/gmock.h"
#include "tests/checkpoint_writer.h"

// Configs and checkpoints that do not hold together give one error that names the fault.

namespace tprun {
namespace {

Json GoodConfig() {
  return {{"model_type", "llama"},    {"hidden_size", 32},          {"num_hidden_layers", 1},
          {"intermediate_size", 64},  {"vocab_size", 48},           {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"tie_word_embeddings", true}};
}

absl::StatusOr<ModelSpec> Build(const Json& config) {
  const auto architecture = FindArchitecture(config);
  if (!architecture.ok()) return architecture.status();
  return (*architecture)->build(config, Naming::kHuggingFace);
}

TEST(BadConfig, NamesTheMember) {
  ASSERT_TRUE(Build(GoodConfig()).ok()) << Build(GoodConfig()).status();
  const std::pair<const char*, Json> bad[] = {
      {"hidden_size", "32"},
      {"hidden_size", nullptr},
      {"hidden_size", 0},
      {"hidden_size", -32},
      {"hidden_size", 1LL << 60},
      {"hidden_size", 33},  // no multiple of the heads
      {"num_hidden_layers", 1 << 30},
      {"num_attention_heads", 3},
      {"num_key_value_heads", 3},
      {"vocab_size", 1.5},
      {"head_dim", 7},  // rotary pairs
      {"rope_theta", 0},
      {"rope_theta", -1},
      {"rope_scaling", {{"rope_type", "unheard-of"}, {"factor", 2}}},
      {"rope_scaling", {{"rope_type", "linear"}}},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}},
      {"rope_scaling", 5},
      {"rope_scaling", {{"rope_type", "longrope"}}},
      {"rope_scaling", {{"type", "su"}, {"short_factor", {1, 1}}, {"long_factor", {1, 0}}}},
      {"rope_scaling",
       {{"type", "longrope"}, {"short_factor", {1, 1, 1}}, {"long_factor", {1, 1, 1}}}},
      {"rope_scaling",
       {{"rope_type", "llama3"},
        {"factor", 8},
        {"low_freq_factor", 4},
        {"high_freq_factor", 1},
        {"original_max_position_embeddings", 64}}},
      {"hidden_act", "relu"},
      {"head_dim", 1 << 21},
      {"mlp_bias", true},
      {"num_local_experts", 8}};
  for (const auto& [key, value] : bad) {
    Json config = GoodConfig();
    config[key] = value;
    const auto spec = Build(config);
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument)
        << key << " = " << value.dump();
    EXPECT_FALSE(spec.status().message().empty());
  }
}

Json ExpertsConfig() {
  Json config = GoodConfig();
  config.update(
      Json{{"model_type", "mixtral"}, {"num_local_experts", 4}, {"num_experts_per_tok", 2}});
  return config;
}

Json LatentConfig() {
  Json config = ExpertsConfig();
  config.update(Json{{"model_type", "deepseek_v2"},
                     {"kv_lora_rank", 16},
                     {"qk_nope_head_dim", 8},
                     {"qk_rope_head_dim", 4},
                     {"v_head_dim", 8},
                     {"moe_intermediate_size", 16},
                     {"n_shared_experts", 1}});
  return config;
}

Json MoshiConfig() {
  return {{"dim", 32},
          {"text_card", 10},
          {"card", 10},
          {"context", 8},
          {"num_heads", 2},
          {"num_layers", 1},
          {"n_q", 2},
          {"dep_q", 2},
          {"depformer_dim", 16},
          {"hidden_scale", 4},
          {"depformer_num_heads", 2},
          {"depformer_num_layers", 1}};
}

TEST(BadConfig, OfModelsThatCanOnlyBePlannedNamesTheMemberToo) {
  struct Bad {
    Json config;
    const char* key;
    Json value;
  };
  const int64_t huge = int64_t{1} << 40;
  const Json gemma3 = {{"model_type", "gemma3_text"}};
  const Bad bad[] = {{ExpertsConfig(), "num_local_experts", -1},
                     {ExpertsConfig(), "num_local_experts", huge},
                     {ExpertsConfig(), "num_local_experts", 0},
                     {ExpertsConfig(), "num_experts_per_tok", 5},
                     {ExpertsConfig(), "num_experts_per_tok", "2"},
                     {ExpertsConfig(), "intermediate_size", 1 << 24},
                     {LatentConfig(), "kv_lora_rank", nullptr},
                     {LatentConfig(), "kv_lora_rank", huge},
                     {LatentConfig(), "q_lora_rank", -4},
                     {LatentConfig(), "qk_nope_head_dim", 0},
                     {LatentConfig(), "qk_rope_head_dim", nullptr},
                     {LatentConfig(), "v_head_dim", 1 << 22},
                     {LatentConfig(), "n_shared_experts", -1},
                     {LatentConfig(), "n_shared_experts", 1 << 15},
                     {LatentConfig(), "moe_intermediate_size", 1 << 23},
                     {MoshiConfig(), "dim", huge},
                     {MoshiConfig(), "dim", 33},
                     {MoshiConfig(), "dep_q", 0},
                     {MoshiConfig(), "depformer_num_heads", 3},
                     {MoshiConfig(), "delays", Json::array({0, 1})},
                     {MoshiConfig(), "delays", Json::array({0, -1, 0})},
                     {MoshiConfig(), "delays", Json::array({0, 1e9, 0})},
                     {MoshiConfig(), "delays", 1},
                     {MoshiConfig(), "hidden_scale", -1},
                     {MoshiConfig(), "hidden_scale", 1e30},
                     {gemma3, "rope_parameters", {{"full_attention", 5}}},
                     {gemma3, "text_config", 5},
                     {gemma3, "sliding_window_pattern", 0}};
  for (const Json& good : {ExpertsConfig(), LatentConfig(), MoshiConfig(), gemma3}) {
    ASSERT_TRUE(Build(good).ok()) << Build(good).status();
  }
  for (const auto& [good, key, value] : bad) {
    Json config = good;
    config[key] = value;
    EXPECT_EQ(Build(config).status().code(), absl::StatusCode::kInvalidArgument)
        << key << " = " << value.dump();
  }
}

// A checkpoint of GoodConfig in a folder of its own.
class BadTensors : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/bad_tensors";
    std::filesystem::create_directories(folder_);
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      int64_t count = 1;
      for (int64_t extent : shape) count *= extent;
      tensors_.push_back(MakeTensor(name, shape, kF32Format, std::vector<float>(count, 0.5f)));
    };
    const std::string layer = "model.layers.0.";
    add("model.embed_tokens.weight", {48, 32});
    add("model.norm.weight", {32});
    add(layer + "input_layernorm.weight", {32});
    add(layer + "post_attention_layernorm.weight", {32});
    add(layer + "self_attn.q_proj.weight", {32, 32});
    add(layer + "self_attn.k_proj.weight", {16, 32});
    add(layer + "self_attn.v_proj.weight", {16, 32});
    add(layer + "self_attn.o_proj.weight", {32, 32});
    add(layer + "mlp.gate_proj.weight", {64, 32});
    add(layer + "mlp.up_proj.weight", {64, 32});
    add(layer + "mlp.down_proj.weight", {32, 64});
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<ModelSpec> Read(const WeightFormat* assumed = nullptr,
                                 const Json& config = GoodConfig()) {
    EXPECT_TRUE(WriteFile(folder_ + "/config.json", config.dump()).ok());
    EXPECT_TRUE(WriteFile(folder_ + "/model.safetensors", SafetensorsFile(tensors_)).ok());
    const auto checkpoint = Checkpoint::Open(folder_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return ReadModelSpec(**checkpoint, assumed);
  }

  std::string folder_;
  std::vector<TensorToWrite> tensors_;
};

TEST_F(BadTensors, AGoodOneReads) {
  const auto spec = Read();
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->name, "bad_tensors");
}

TEST_F(BadTensors, MissingOnesAreNamedWithTheirShape) {
  tensors_.pop_back();
  EXPECT_THAT(std::string(Read().status().message()),
              testing::AllOf(testing::HasSubstr("mlp.down_proj.weight"),
                             testing::HasSubstr("[32, 64]"), testing::HasSubstr("missing")));
}

TEST_F(BadTensors, WrongShapesAreNamed) {
  tensors_.back() = MakeTensor("model.layers.0.mlp.down_proj.weight", {64, 32}, kF32Format,
                               std::vector<float>(2048));
  EXPECT_THAT(std::string(Read().status().message()),
              testing::AllOf(testing::HasSubstr("wanted shape [32, 64]"),
                             testing::HasSubstr("found [64, 32]")));
}

TEST_F(BadTensors, WeightsAreConvertedToWhatIsAskedFor) {
  EXPECT_TRUE(Read(&kF32Format).ok());
  const auto spec = Read(&kQ8_0Format);
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (const TensorSpec& tensor : spec->tensors) {
    EXPECT_EQ(tensor.format, tensor.shape.size() > 1 ? &kQ8_0Format : &kF32Format) << tensor.name;
  }
  EXPECT_EQ(FallbackNote(kQ8_0Format, *spec), "");
}

TEST_F(BadTensors, BlocksThatNoRowHoldsTellThoseThatFit) {
  const auto spec = Read(&kQ6_KFormat);
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(spec.status().message()),
              testing::AllOf(testing::HasSubstr("rows of 32, 64 elements are no whole number of "
                                                "q6_k's blocks of 256"),
                             testing::HasSubstr("formats that fit: f32, f16, bf16, q8_0")));
}

TEST_F(BadTensors, AFormatWithoutEncoderIsNoTarget) {
  EXPECT_THAT(std::string(Read(FindWeightFormat("q1_0")).status().message()),
              testing::HasSubstr("formats that fit"));
  EXPECT_THAT(std::string(Read(FindWeightFormat("fp8_e5m2")).status().message()),
              testing::HasSubstr("no encoder for fp8_e5m2 weights; there is one for: f32, f16"));
}

TEST_F(BadTensors, PackedOnesOfAnUnknownKindArePlannedByTheConfig) {
  // GPTQ in a layout of Marlin's: what of its tensors has which shape does not matter here.
  tensors_.back() = MakeTensor("model.layers.0.mlp.down_proj.qweight", {8, 32}, kF32Format,
                               std::vector<float>(256));
  EXPECT_THAT(std::string(Read().status().message()), testing::HasSubstr("no quantization_config"));
  Json config = GoodConfig();
  config["quantization_config"] = {
      {"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"checkpoint_format", "marlin"}};
  const auto spec = Read(nullptr, config);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(FindTensor(*spec, 2, TensorRole::kDown)->format, FindWeightFormat("int4_g32"));
  EXPECT_EQ(FindTensor(*spec, 2, TensorRole::kUp)->format, &kF32Format);
  EXPECT_THAT(spec->not_runnable,
              testing::HasSubstr("packed in a way that is not read; read are GPTQ"));
  config["quantization_config"]["quant_method"] = "unheard-of";
  EXPECT_THAT(std::string(Read(nullptr, config).status().message()),
              testing::HasSubstr("\"unheard-of\""));
}

}  // namespace
}  // namespace tprun
