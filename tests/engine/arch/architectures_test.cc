#include "engine/arch/architecture.h"

#include "engine/arch/assume_formats.h"
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
        RealConfig{"chatglm3-6b", 6243584000}, RealConfig{"glm-4-voice-9b", 9542557696},
        RealConfig{"orpheus-3b-0.1-ft", 3300867072}, RealConfig{"Mixtral-8x7B-v0.1", 46702792704},
        RealConfig{"Qwen3-30B-A3B", 30532122624}, RealConfig{"DeepSeek-V3", 671026419200},
        RealConfig{"gpt-oss-20b", 20914757184}, RealConfig{"Phi-3.5-mini-instruct", 3821079552},
        RealConfig{"openchat-3.5-0106-gemma", 8537680896}),
    [](const auto& info) {
      std::string name = info.param.name;
      for (char& c : name) {
        if (!isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

// Models without a config among the test data; counts of their safetensors indexes.
TEST(Architectures, CountTheParametersOfModelsOfTheirFamily) {
  const std::pair<Json, int64_t> cases[] = {{{{"model_type", "gemma3_text"},
                                              {"vocab_size", 262144},
                                              {"hidden_size", 1152},
                                              {"intermediate_size", 6912},
                                              {"num_hidden_layers", 26},
                                              {"num_attention_heads", 4},
                                              {"num_key_value_heads", 1},
                                              {"sliding_window", 512}},
                                             999885952},
                                            {{{"model_type", "deepseek_v2"},
                                              {"vocab_size", 102400},
                                              {"hidden_size", 2048},
                                              {"intermediate_size", 10944},
                                              {"moe_intermediate_size", 1408},
                                              {"num_hidden_layers", 27},
                                              {"num_attention_heads", 16},
                                              {"n_shared_experts", 2},
                                              {"n_routed_experts", 64},
                                              {"num_experts_per_tok", 6},
                                              {"kv_lora_rank", 512},
                                              {"q_lora_rank", nullptr},
                                              {"qk_rope_head_dim", 64},
                                              {"qk_nope_head_dim", 128},
                                              {"v_head_dim", 128},
                                              {"first_k_dense_replace", 1}},
                                             15706484224},
                                            {{{"model_type", "qwen2_moe"},
                                              {"vocab_size", 151936},
                                              {"hidden_size", 2048},
                                              {"intermediate_size", 5632},
                                              {"moe_intermediate_size", 1408},
                                              {"shared_expert_intermediate_size", 5632},
                                              {"num_hidden_layers", 24},
                                              {"num_attention_heads", 16},
                                              {"num_experts", 60},
                                              {"num_experts_per_tok", 4}},
                                             14315784192}};
  for (const auto& [config, parameters] : cases) {
    const auto architecture = FindArchitecture(config);
    ASSERT_TRUE(architecture.ok()) << architecture.status();
    const auto spec = (*architecture)->build(config, Naming::kHuggingFace);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(ParameterCount(*spec), parameters) << config["model_type"];
  }
}

TEST(RealConfigs, MoshiHasTwoStacks) {
  TPRUN_NEEDS_TEST_DATA();
  for (const std::string name : {"loaders_lm_kwargs.json", "moshi_7b_202409.json"}) {
    const auto checkpoint =
        Checkpoint::Open(TestDataDirectory() + "/models/configs/moshiko-7b/" + name);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto spec = ReadModelSpec(**checkpoint);
    ASSERT_TRUE(spec.ok()) << spec.status();
    // 7,687,815,168 in the Rust file, which keeps the norms of the six depth layers once per step.
    EXPECT_EQ(ParameterCount(*spec), 7687815168 - 7 * 6 * 2 * 1024);
    EXPECT_EQ(spec->num_layers(), 38);
    EXPECT_EQ(spec->layers[31].stack, "");
    EXPECT_EQ(spec->layers[32].stack, "depth");
    EXPECT_EQ(spec->layers[0].mlp.ffn_dim, 11264);
    EXPECT_EQ(spec->layers[32].mlp.ffn_dim, 2816);
    EXPECT_EQ(BlockName(*spec, spec->attention_block(32)), "depth layer 32 attention");
    EXPECT_EQ(spec->sidecars.size(), 1);
    EXPECT_EQ(spec->not_runnable, "");
    EXPECT_EQ(spec->streams, 17);
    EXPECT_EQ(spec->depth.steps, 8);
  }
}

TEST(RealConfigs, QuantisedOnesHaveTheirBytes) {
  TPRUN_NEEDS_TEST_DATA();
  const auto bytes = [](const std::string& name, const Json& quantization) {
    Json config = *ReadJsonFile(TestDataDirectory() + "/models/configs/" + name + "/config.json");
    if (!quantization.is_null()) config["quantization_config"] = quantization;
    const std::string path = testing::TempDir() + "/quantised_config.json";
    EXPECT_TRUE(WriteFile(path, config.dump()).ok());
    const auto checkpoint = Checkpoint::Open(path);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto spec = ReadModelSpec(**checkpoint);
    EXPECT_TRUE(spec.ok()) << spec.status();
    double sum = 0;
    for (const TensorSpec& tensor : spec->tensors) {
      if (tensor.role == TensorRole::kHead && spec->tied_head) continue;
      sum += static_cast<double>(ElementCount(tensor)) /
             static_cast<double>(tensor.format->block_elements) *
             static_cast<double>(tensor.format->block_bytes);
    }
    return sum;
  };
  // Sizes of published checkpoints: DeepSeek-V3 without the extra layer for a second token, gpt-oss
  // 20b, Llama 3 8B as AWQ (5.73 GB); GLM-4-Voice as NF4 at load: model-specs 13.5. Ranks hold an
  // f32 scale with each 128 values of FP8 and each 64 of NF4, which those sizes do not have.
  EXPECT_NEAR(bytes("DeepSeek-V3", nullptr), 673.1e9 + 669.0e9 * 4 / 128, 0.5e9);
  EXPECT_NEAR(bytes("gpt-oss-20b", nullptr), 13.76e9, 0.02e9);
  EXPECT_NEAR(bytes("Meta-Llama-3-8B", {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 128}}),
              5.73e9, 0.03e9);
  EXPECT_NEAR(bytes("glm-4-voice-9b", {{"quant_method", "bitsandbytes"},
                                       {"load_in_4bit", true},
                                       {"bnb_4bit_use_double_quant", true}}),
              4.208e9 / 0.51587 * 36 / 64 + 2.768e9, 0.01e9);
  EXPECT_NEAR(bytes("Meta-Llama-3-8B", {{"quant_method", "fp8"}}), 9.08e9 + 6.979e9 * 4 / 128,
              0.02e9);
}

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

TEST(Quantisation, DeclaresFp8ActivationsAsItsMethodDoes) {
  const auto declares = [](const char* quantization) {
    return DeclaresFp8Activations(Json{{"quantization_config", Json::parse(quantization)}});
  };
  EXPECT_TRUE(declares(R"({"quant_method": "fp8", "activation_scheme": "dynamic"})"));
  EXPECT_TRUE(declares(R"({"quant_method": "fp8", "activation_scheme": "static"})"));
  EXPECT_FALSE(declares(R"({"quant_method": "fp8"})"));
  EXPECT_TRUE(declares(R"({"quant_method": "fbgemm_fp8"})"));
  EXPECT_FALSE(declares(R"({"quant_method": "gptq", "activation_scheme": "dynamic"})"));
  const auto compressed = [&](const std::string& inputs) {
    return declares((R"({"quant_method": "compressed-tensors", "config_groups": {"group_0": {)" +
                     inputs + "}}}")
                        .c_str());
  };
  EXPECT_TRUE(compressed(R"("input_activations": {"num_bits": 8, "type": "float"})"));
  EXPECT_FALSE(compressed(R"("input_activations": {"num_bits": 8, "type": "int"})"));
  EXPECT_FALSE(compressed(R"("input_activations": {"num_bits": 4, "type": "float"})"));
  EXPECT_FALSE(compressed(R"("input_activations": null)"));
  EXPECT_FALSE(compressed(""));
  EXPECT_FALSE(declares("null"));
  EXPECT_FALSE(DeclaresFp8Activations(Json::object()));
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
