#include "engine/runtime/convert_gguf.h"

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/json.h"
#include "engine/arch/gguf_description.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// A golden checkpoint written as GGUF gives the logits that Hugging Face transformers gives the
// original. (tests/golden/llama_cpp/check_converted.py: llama.cpp gives them too.)

namespace tprun {
namespace {

using ::testing::HasSubstr;

constexpr double kTolerance = 1e-4;  // as golden_logits_test.cc

absl::Status Convert(const TestModel& model, const std::string& path) {
  const absl::StatusOr<GgufDescription> description = DescribeAsGguf(model.spec);
  if (!description.ok()) return description.status();
  const auto conversion = PlanGgufOfFolder(model.spec, description->spec, description->metadata);
  if (!conversion.ok()) return conversion.status();
  const auto file = OutputFile::Create(path);
  if (!file.ok()) return file.status();
  ThreadPool pool(2);
  const absl::Status status = WriteGguf(*model.checkpoint, *conversion, pool, nullptr, **file);
  return status.ok() ? (*file)->Commit() : status;
}

class ConvertGguf : public testing::TestWithParam<std::string> {};

TEST_P(ConvertGguf, GivesTheLogitsOfTheOriginal) {
  const std::string folder = SourcePath("tests/golden/" + GetParam());
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string path = absl::StrCat(testing::TempDir(), "/convert_", GetParam(), ".gguf");
  const absl::Status converted = Convert(*model, path);
  ASSERT_TRUE(converted.ok()) << converted;
  const auto gguf = OpenTestModel(path);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(ParameterCount(gguf->spec), ParameterCount(model->spec));
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  TestOptions options;
  options.context = expected->value("context", 0);
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({2, 1})}) {
    const auto logits =
        LogitsAt(*gguf, layout, options, tokens, {static_cast<int64_t>(tokens.size()) - 1});
    ASSERT_TRUE(logits.ok()) << logits.status();
    const auto golden = (*expected)["last_logits"].get<std::vector<float>>();
    EXPECT_LT(LargestDifference(logits->back(), golden), kTolerance) << layout.name;
  }
  std::remove(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(All, ConvertGguf,
                         testing::Values("llama_gqa", "llama_tied", "llama_attention_bias",
                                         "llama_rope_llama3", "llama_rope_linear",
                                         "llama_rope_yarn", "llama_f16", "qwen2", "qwen3", "gemma",
                                         "glm", "glm4", "chatglm", "phi3", "phi3_long_rope",
                                         "phi3_short_rope", "mixtral", "qwen2_moe", "qwen3_moe",
                                         "deepseek_v2_groups", "deepseek_v3", "gpt_oss",
                                         "gpt_oss_mxfp4"),
                         [](const auto& info) { return info.param; });

// What GGUF cannot tell of a model is told, not left out.
TEST(ConvertGgufRefuses, WhatWouldComputeSomethingElse) {
  for (const auto& [name, reason] : {std::pair("deepseek_v2", "rope magnitude"),
                                     {"qwen3_moe_dense_layers", "of layer 0"},
                                     {"moshi", "cannot be written as GGUF"}}) {
    const auto model = OpenTestModel(SourcePath(absl::StrCat("tests/golden/", name)));
    ASSERT_TRUE(model.ok()) << model.status();
    const auto description = DescribeAsGguf(model->spec);
    EXPECT_EQ(description.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(description.status().message()), HasSubstr(reason)) << name;
  }
}

}  // namespace
}  // namespace tprun
