#include <cstdlib>
#include <filesystem>

#include "engine/arch/architecture.h"
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

  absl::StatusOr<ModelSpec> Read(const WeightFormat* assumed = nullptr) {
    EXPECT_TRUE(WriteFile(folder_ + "/config.json", GoodConfig().dump()).ok());
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

TEST_F(BadTensors, WeightsInAnotherFormatThanAskedForAreToldApart) {
  EXPECT_TRUE(Read(&kF32Format).ok());
  const auto spec = Read(&kQ8_0Format);
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(spec.status().message()), testing::HasSubstr("f32"));
}

}  // namespace
}  // namespace tprun
