#include <cmath>
#include <numeric>
#include <string>

#include "base/json.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Every golden checkpoint against Hugging Face transformers (tests/golden/README.md).

namespace tprun {
namespace {

// Float32 in another order of sums differs by about 1e-5 on logits of a few units.
constexpr double kTolerance = 1e-4;

enum class KernelKind { kReference, kCpu, kArranged };  // arranged: weights in tiles

struct GoldenCase {
  std::string name;
  KernelKind kernels;
};

class GoldenLogits : public testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    const std::string folder = SourcePath("tests/golden/" + GetParam().name);
    auto model = OpenTestModel(folder);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    auto expected = ReadJsonFile(folder + "/expected.json");
    ASSERT_TRUE(expected.ok()) << expected.status();
    expected_ = *std::move(expected);
    tokens_ = expected_["input_ids"].get<std::vector<int32_t>>();
    options_.reference_kernels = GetParam().kernels == KernelKind::kReference;
    if (GetParam().kernels == KernelKind::kArranged) options_.activations = Activations::kInt16;
    options_.context = expected_.value("context", 0);
  }

  TestModel model_;
  Json expected_;
  std::vector<int32_t> tokens_;
  TestOptions options_;
};

double LogSumExp(const std::vector<float>& logits) {
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit));
  return std::log(sum);
}

TEST_P(GoldenLogits, EveryPosition) {
  std::vector<int64_t> positions(tokens_.size());
  std::iota(positions.begin(), positions.end(), 0);
  const auto logits = LogitsAt(model_, TensorSplit({1}), options_, tokens_, positions);
  ASSERT_TRUE(logits.ok()) << logits.status();
  for (size_t p = 0; p < positions.size(); ++p) {
    for (const Json& entry : expected_["top5"][p]) {
      EXPECT_NEAR((*logits)[p][entry[0].get<int>()], entry[1].get<double>(), kTolerance) << p;
    }
    EXPECT_NEAR(LogSumExp((*logits)[p]), expected_["logsumexp"][p].get<double>(), kTolerance) << p;
  }
  const auto last = expected_["last_logits"].get<std::vector<float>>();
  EXPECT_LT(LargestDifference(logits->back(), last), kTolerance);
}

TEST_P(GoldenLogits, PrefillInOnePieceAndInChunks) {
  const auto expected = expected_["last_logits"].get<std::vector<float>>();
  for (int64_t chunk : {512, 7, 1}) {
    options_.prefill_chunk = chunk;
    const auto logits = LogitsAt(model_, TensorSplit({1}), options_, tokens_,
                                 {static_cast<int64_t>(tokens_.size()) - 1});
    ASSERT_TRUE(logits.ok()) << logits.status();
    EXPECT_LT(LargestDifference(logits->back(), expected), kTolerance) << "chunk " << chunk;
  }
}

TEST_P(GoldenLogits, GreedyTokens) {
  const auto expected = expected_["greedy_ids"].get<std::vector<int32_t>>();
  ASSERT_EQ(expected.size(), 32);
  const auto ids = GreedyTokens(model_, TensorSplit({1}), options_, tokens_, expected.size(), {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, expected);
}

std::vector<GoldenCase> Cases() {
  std::vector<GoldenCase> cases;
  for (const char* name : {"llama_gqa",
                           "llama_mha",
                           "llama_mqa",
                           "llama_3_kv_heads",
                           "llama_odd_heads",
                           "llama_tied",
                           "llama_odd_vocabulary",
                           "llama_head_dim",
                           "llama_attention_bias",
                           "llama_rope_llama3",
                           "llama_rope_linear",
                           "llama_rope_parameters",
                           "llama_f16",
                           "llama_bf16",
                           "llama_sharded",
                           "mistral_window",
                           "qwen2",
                           "qwen3",
                           "gemma",
                           "gemma2",
                           "gemma3",
                           "glm",
                           "phi3",
                           "phi3_long_rope",
                           "phi3_short_rope",
                           "glm4",
                           "chatglm",
                           "llama_rope_yarn",
                           "mixtral",
                           "qwen2_moe",
                           "qwen3_moe",
                           "qwen3_moe_dense_layers",
                           "deepseek_v2",
                           "deepseek_v2_groups",
                           "deepseek_v3",
                           "gpt_oss",
                           "gpt_oss_mxfp4"}) {
    cases.push_back({name, KernelKind::kCpu});
    cases.push_back({name, KernelKind::kReference});
    // Of plain weights alone: activations that meet quantised ones are rounded.
    if (name != std::string("gpt_oss_mxfp4")) cases.push_back({name, KernelKind::kArranged});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenLogits, testing::ValuesIn(Cases()), [](const auto& info) {
  return info.param.name + (info.param.kernels == KernelKind::kReference  ? "_reference"
                            : info.param.kernels == KernelKind::kArranged ? "_arranged"
                                                                          : "_cpu");
});

}  // namespace
}  // namespace tprun
