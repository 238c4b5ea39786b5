#include <string>

#include "base/json.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Every layout gives what one rank gives. Ranks are threads.

namespace tprun {
namespace {

// Sums of float32 in another order.
constexpr double kTolerance = 1e-4;

struct LayoutCase {
  std::string model;
  TestLayout layout;
};

class Layouts : public testing::TestWithParam<LayoutCase> {};

TEST_P(Layouts, PrefillAndDecodeGiveTheLogitsOfTransformers) {
  const std::string folder = SourcePath("tests/golden/" + GetParam().model);
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto placements = GetParam().layout.place(model->spec);
  ASSERT_TRUE(ValidatePlacements(model->spec, placements, GetParam().layout.world_size).ok())
      << ValidatePlacements(model->spec, placements, GetParam().layout.world_size);
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  // The prompt at once, then the tokens that transformers found greedily, one by one.
  auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  const auto prompt = static_cast<int64_t>(tokens.size());
  for (const Json& id : (*expected)["greedy_ids"]) tokens.push_back(id.get<int32_t>());
  const auto last = static_cast<int64_t>(tokens.size()) - 1;
  ASSERT_EQ(last - prompt + 1, 32);
  TestOptions options;
  options.prefill_chunk = 9;
  options.context = expected->value("context", 0);
  const auto logits =
      LogitsAt(*model, GetParam().layout, options, tokens, {prompt - 1, prompt + 15, last});
  ASSERT_TRUE(logits.ok()) << logits.status();
  const auto after_prompt = (*expected)["last_logits"].get<std::vector<float>>();
  EXPECT_LT(LargestDifference((*logits)[0], after_prompt), kTolerance);
  const auto after_all = (*expected)["final_logits"].get<std::vector<float>>();
  EXPECT_LT(LargestDifference((*logits)[2], after_all), kTolerance);
  const auto alone = LogitsAt(*model, TensorSplit({1}), options, tokens, {prompt + 15});
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_LT(LargestDifference((*logits)[1], (*alone)[0]), kTolerance);
}

std::vector<LayoutCase> Cases() {
  std::vector<LayoutCase> cases;
  // One of each kind of attention, of vocabulary, of fused and extra tensors.
  for (const char* model : {"llama_gqa",
                            "llama_mqa",
                            "llama_3_kv_heads",
                            "llama_odd_heads",
                            "llama_odd_vocabulary",
                            "llama_tied",
                            "llama_attention_bias",
                            "mistral_window",
                            "qwen2",
                            "qwen3",
                            "gemma",
                            "gemma2",
                            "gemma3",
                            "glm",
                            "glm4",
                            "chatglm",
                            "phi3",
                            "phi3_long_rope",
                            "phi3_short_rope",
                            "mixtral",
                            "qwen2_moe",
                            "qwen3_moe",
                            "qwen3_moe_dense_layers",
                            "deepseek_v2",
                            "deepseek_v2_groups",
                            "deepseek_v3",
                            "gpt_oss",
                            "gpt_oss_mxfp4"}) {
    for (const TestLayout& layout : AllLayouts()) cases.push_back({model, layout});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, Layouts, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = info.param.model + "_" + info.param.layout.name;
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace tprun
