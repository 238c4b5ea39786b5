#include "engine/arch/architecture.h"

#include "engine/arch/read_model_spec.h"
#include "gmock/gmock.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

struct RealConfig {
  std::string name;  // below configs/
  int64_t parameters;
};

class RealConfigs : public testing::TestWithParam<RealConfig> {};

// The counts are the published ones: those of the model cards and papers where they give all
// digits, else of the checkpoint's index (total_size / 2).
TEST_P(RealConfigs, HaveThePublishedNumberOfParameters) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint =
      Checkpoint::Open(TestDataDirectory() + "/models/configs/" + GetParam().name + "/config.json");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto spec = ReadModelSpec(**checkpoint);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(ParameterCount(*spec), GetParam().parameters);
  EXPECT_EQ(spec->blocks.size(), 2 + 2 * spec->layers.size());
}

INSTANTIATE_TEST_SUITE_P(
    All, RealConfigs,
    testing::Values(
        RealConfig{"Llama-2-7b-chat-hf", 6738415616},
        RealConfig{"Llama-2-70b-chat-hf", 68976648192}, RealConfig{"Meta-Llama-3-8B", 8030261248},
        RealConfig{"Meta-Llama-3.1-8B", 8030261248}, RealConfig{"Llama-3.2-3B", 3212749824},
        RealConfig{"Mistral-7B-v0.1", 7241732096}, RealConfig{"Qwen1.5-0.5B", 463987712},
        RealConfig{"Qwen2-7B-Instruct", 7615616512}, RealConfig{"Qwen3-8B", 8190735360},
        RealConfig{"gemma-2b-it", 2506172416}, RealConfig{"gemma-7b", 8537680896},
        RealConfig{"gemma-2-9b", 9241705984}, RealConfig{"glm-4-9b-chat", 9399951360},
        RealConfig{"chatglm3-6b", 6243584000}),
    [](const auto& info) {
      std::string name = info.param.name;
      for (char& c : name) {
        if (!isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

TEST(RealConfigs, OrpheusIsAnOrdinaryLlama) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint =
      Checkpoint::Open(TestDataDirectory() + "/models/configs/orpheus-3b-0.1-ft/config.json");
  ASSERT_TRUE(checkpoint.ok());
  const auto spec = ReadModelSpec(**checkpoint);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->vocab, 156940);
  EXPECT_TRUE(spec->tied_head);
  EXPECT_EQ(spec->layers[0].attention.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(spec->layers[0].attention.rope.factor, 32);
}

TEST(Architectures, GiveDetailsOfTheirFamily) {
  TPRUN_NEEDS_TEST_DATA();
  const auto read = [](const std::string& name) {
    const auto checkpoint = Checkpoint::Open(TestDataDirectory() + "/models/configs/" + name);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto spec = ReadModelSpec(**checkpoint);
    EXPECT_TRUE(spec.ok()) << spec.status();
    return *std::move(spec);
  };
  const ModelSpec mistral = read("Mistral-7B-v0.1/config.json");
  EXPECT_EQ(mistral.layers[5].attention.window, 4096);
  const ModelSpec gemma2 = read("gemma-2-9b/config.json");
  EXPECT_EQ(gemma2.layers[0].attention.window, 4096);
  EXPECT_EQ(gemma2.layers[1].attention.window, 0);
  EXPECT_EQ(gemma2.layers[0].attention.logit_softcap, 50);
  EXPECT_EQ(gemma2.final_logit_softcap, 30);
  EXPECT_TRUE(gemma2.final_norm.unit_offset);
  const ModelSpec glm = read("glm-4-9b-chat/config.json");
  EXPECT_EQ(glm.layers[0].attention.rope.dims, 64);
  EXPECT_EQ(glm.layers[0].attention.rope.theta, 5e6);
  const TensorSpec& key = *FindTensor(glm, glm.attention_block(0), TensorRole::kKey);
  EXPECT_EQ(key.first_row, 4096);
  EXPECT_EQ(key.source_rows, 4608);
}

TEST(Architectures, AssumedFormatsFollowTheBlocks) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint =
      Checkpoint::Open(TestDataDirectory() + "/models/tiny/stories260K/hf/config.json");
  ASSERT_TRUE(checkpoint.ok());
  const auto spec = ReadModelSpec(**checkpoint, &kQ8_0Format);
  ASSERT_TRUE(spec.ok()) << spec.status();
  // Rows of 64 are two blocks of 32, rows of 172 are no whole number of them.
  EXPECT_EQ(FindTensor(*spec, 1, TensorRole::kQuery)->format, &kQ8_0Format);
  EXPECT_EQ(FindTensor(*spec, 2, TensorRole::kDown)->format, &kF16Format);
}

TEST(Architectures, UnknownOnesAreToldWithTheSupportedOnes) {
  const auto found = FindArchitecture({{"model_type", "mamba"}});
  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(found.status().message()),
              testing::AllOf(testing::HasSubstr("mamba"), testing::HasSubstr("llama, mistral")));
  EXPECT_FALSE(FindArchitecture(Json::object()).ok());
  EXPECT_FALSE(FindArchitecture({{"model_type", 7}}).ok());
}

}  // namespace
}  // namespace tprun
