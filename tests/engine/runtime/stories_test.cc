#include <string>

#include "base/json.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// The stories260K checkpoint, which nobody here made, in every file that holds it, against a
// float64 reference of the stored weights.

namespace tprun {
namespace {

struct StoriesFile {
  std::string path;      // below tiny/stories260K
  std::string expected;  // expected.json, or an entry of gguf/expected.json
  // Float32 against the float64 reference. The weights are used exactly as stored.
  double tolerance;
};

Json ExpectedOf(const StoriesFile& file) {
  const std::string folder = TestDataDirectory() + "/models/tiny/stories260K/";
  const bool gguf = file.path.rfind("gguf/", 0) == 0;
  auto json = ReadJsonFile(folder + (gguf ? "gguf/expected.json" : file.expected));
  EXPECT_TRUE(json.ok()) << json.status();
  return gguf ? (*json)["files"][file.expected] : *json;
}

TestModel OpenStories(const StoriesFile& file) {
  auto model = OpenTestModel(TestDataDirectory() + "/models/tiny/stories260K/" + file.path);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

class Stories : public testing::TestWithParam<StoriesFile> {};

TEST_P(Stories, GreedyTextIsTheExpectedOneInEveryLayout) {
  TPRUN_NEEDS_TEST_DATA();
  const Json expected = ExpectedOf(GetParam());
  const TestModel model = OpenStories(GetParam());
  const auto after_prompt = expected["greedy_after_prompt"]["new_ids"].get<std::vector<int32_t>>();
  for (const TestLayout& layout : AllLayouts()) {
    const auto ids =
        GreedyTokens(model, layout, {}, {1, 403, 407, 261, 378}, after_prompt.size(), {1, 2});
    ASSERT_TRUE(ids.ok()) << layout.name << ": " << ids.status();
    EXPECT_EQ(*ids, after_prompt) << layout.name;
  }
}

TEST_P(Stories, LogitsOfTheProbe) {
  TPRUN_NEEDS_TEST_DATA();
  const Json expected = ExpectedOf(GetParam());
  const TestModel model = OpenStories(GetParam());
  const std::vector<int32_t> probe = {1,   317, 269, 274, 287, 263, 377, 267, 265,
                                      282, 295, 433, 426, 342, 394, 261, 370, 400,
                                      428, 269, 366, 382, 276, 399, 393, 426};
  const auto logits = LogitsAt(model, TensorSplit({1}), {}, probe, {25});
  ASSERT_TRUE(logits.ok()) << logits.status();
  const auto golden = expected["probe"]["logits_last_position"].get<std::vector<float>>();
  EXPECT_LT(LargestDifference(logits->back(), golden), GetParam().tolerance);
}

INSTANTIATE_TEST_SUITE_P(
    All, Stories,
    testing::Values(StoriesFile{"hf", "expected.json", 1e-4},
                    StoriesFile{"hf-bf16-sharded", "hf-bf16-sharded/expected.json", 1e-4},
                    StoriesFile{"gguf/stories260K-f32.gguf", "stories260K-f32.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-f16.gguf", "stories260K-f16.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-bf16.gguf", "stories260K-bf16.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-q8_0.gguf", "stories260K-q8_0.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-q4_0.gguf", "stories260K-q4_0.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-q4_1.gguf", "stories260K-q4_1.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-q5_0.gguf", "stories260K-q5_0.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-q5_1.gguf", "stories260K-q5_1.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-iq4_nl.gguf", "stories260K-iq4_nl.gguf", 1e-4},
                    StoriesFile{"gguf/stories260K-mxfp4.gguf", "stories260K-mxfp4.gguf", 1e-4},
                    StoriesFile{"gguf/split/stories260K-f16-00001-of-00003.gguf",
                                "stories260K-f16.gguf", 1e-4}),
    [](const auto& info) {
      std::string name = info.param.path;
      for (char& c : name) {
        if (!isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

TEST(Stories, GreedyTextFromTheBeginning) {
  TPRUN_NEEDS_TEST_DATA();
  const StoriesFile file = {"hf", "expected.json", 0};
  const auto expected = ExpectedOf(file)["greedy_after_bos"]["ids"].get<std::vector<int32_t>>();
  const TestModel model = OpenStories(file);
  const std::vector<int32_t> rest(expected.begin() + 1, expected.end());
  // The first id is BOS, then 255 more.
  for (const WeightFormat* kv_type : {&kF32Format, &kF16Format}) {
    TestOptions options;
    options.kv_type = kv_type;
    options.threads = 2;
    const auto ids =
        GreedyTokens(model, TensorSplit({5, 2, 1}), options, {expected[0]}, rest.size(), {1, 2});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, rest) << kv_type->name;
  }
}

// Other tiny checkpoints of the shared data: probe logits at the last position, from both kinds of
// file.
struct TinyCase {
  std::string path;  // below tiny/
  std::string expected;
  std::string entry;  // of "files", or ""
  double tolerance;
};

class Tiny : public testing::TestWithParam<TinyCase> {};

TEST_P(Tiny, LogitsOfTheProbe) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string tiny = TestDataDirectory() + "/models/tiny/";
  const auto model = OpenTestModel(tiny + GetParam().path);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto json = ReadJsonFile(tiny + GetParam().expected);
  ASSERT_TRUE(json.ok());
  const auto probe = (*json)["probe_ids"].get<std::vector<int32_t>>();
  const Json& golden = GetParam().entry.empty() ? *json : (*json)["files"][GetParam().entry];
  const auto expected = golden["logits_last_position"].get<std::vector<float>>();
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({2, 1}), BlocksApart()}) {
    const auto logits =
        LogitsAt(*model, layout, {}, probe, {static_cast<int64_t>(probe.size()) - 1});
    ASSERT_TRUE(logits.ok()) << logits.status();
    EXPECT_LT(LargestDifference(logits->back(), expected), GetParam().tolerance) << layout.name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Tiny,
    testing::Values(
        TinyCase{"random-llama-256/hf", "random-llama-256/expected.json", "", 1e-4},
        TinyCase{"random-llama-256/gguf/random-llama-256-q2_k.gguf",
                 "random-llama-256/gguf/expected.json", "random-llama-256-q2_k.gguf", 1e-4},
        TinyCase{"random-llama-256/gguf/random-llama-256-q3_k.gguf",
                 "random-llama-256/gguf/expected.json", "random-llama-256-q3_k.gguf", 1e-4},
        TinyCase{"random-llama-256/gguf/random-llama-256-q4_k.gguf",
                 "random-llama-256/gguf/expected.json", "random-llama-256-q4_k.gguf", 1e-4},
        TinyCase{"random-llama-256/gguf/random-llama-256-q5_k.gguf",
                 "random-llama-256/gguf/expected.json", "random-llama-256-q5_k.gguf", 1e-4},
        TinyCase{"random-llama-256/gguf/random-llama-256-q6_k.gguf",
                 "random-llama-256/gguf/expected.json", "random-llama-256-q6_k.gguf", 1e-4},
        TinyCase{"random-llama-256/gguf/random-llama-256-iq4_xs.gguf",
                 "random-llama-256/gguf/expected.json", "random-llama-256-iq4_xs.gguf", 1e-4},
        TinyCase{"random-llama3rope-128/hf", "random-llama3rope-128/expected.json", "", 1e-4},
        TinyCase{"random-llama3rope-128/gguf/random-llama3rope-128-f16.gguf",
                 "random-llama3rope-128/gguf/expected.json", "random-llama3rope-128-f16.gguf",
                 1e-4},
        TinyCase{"random-llama3rope-128/gguf/random-llama3rope-128-q8_0.gguf",
                 "random-llama3rope-128/gguf/expected.json", "random-llama3rope-128-q8_0.gguf",
                 1e-4},
        TinyCase{"random-qwen2-tiny/hf", "random-qwen2-tiny/expected.json", "", 2e-4},
        TinyCase{"random-qwen2-tiny/gguf/random-qwen2-tiny-f32.gguf",
                 "random-qwen2-tiny/expected.json", "", 2e-4},
        TinyCase{"random-qwen3-tiny/hf", "random-qwen3-tiny/expected.json", "", 1e-4},
        TinyCase{"random-qwen3-tiny/gguf/random-qwen3-tiny-f32.gguf",
                 "random-qwen3-tiny/expected.json", "", 1e-4},
        TinyCase{"random-gemma-tiny/hf", "random-gemma-tiny/expected.json", "", 1e-4},
        TinyCase{"random-gemma-tiny/gguf/random-gemma-tiny-f32.gguf",
                 "random-gemma-tiny/expected.json", "", 1e-4},
        TinyCase{"random-chatglm-tiny/hf", "random-chatglm-tiny/expected.json", "", 1e-4},
        TinyCase{"random-chatglm-tiny/gguf/random-chatglm-tiny-f32.gguf",
                 "random-chatglm-tiny/expected.json", "", 1e-4}),
    [](const auto& info) {
      std::string name = info.param.path;
      for (char& c : name) {
        if (!isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

}  // namespace
}  // namespace tprun
