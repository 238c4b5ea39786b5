// The whole engine with the CUDA kernels, run without a GPU by tests/cuda_emulation, behind fake
// accelerators (fake_accelerator.h): layouts, batches and recorded steps.
#include <set>
#include <string>

#include "base/json.h"
#include "engine/runtime/generate.h"
#include "gmock/gmock.h"
#include "tests/cuda_emulation/emulated_device.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

constexpr double kTolerance = 1e-4;  // sums of float32 in another order
// Of logits of a few units, where activations are rounded to bf16: in matrix products of more than
// 8 tokens with weights of 16 bits.
constexpr double kRoundedTolerance = 0.05;

// The executor is one for all threads: each op holds `mutex`.
MakeFakeCompute Emulated(const std::shared_ptr<std::mutex>& mutex) {
  return [mutex](ThreadPool&) {
    const std::shared_ptr<Device> device = MakeEmulatedDevice();
    std::shared_ptr<Kernels> kernels = MakeEmulatedCudaKernels(*device);
    Kernels* const raw = kernels.get();
    // The device ends after the kernels, which have memory of it.
    const auto end = [device, kernels = std::move(kernels)](Kernels*) mutable { kernels.reset(); };
    return FakeCompute{std::shared_ptr<Kernels>(raw, end), mutex, /*arranges=*/true};
  };
}

struct EmulatedCase {
  std::string model;
  TestLayout layout;
  bool record = false;
  int64_t prefill_chunk = 8;
};

class EmulatedCuda : public testing::TestWithParam<EmulatedCase> {};

TEST_P(EmulatedCuda, GivesTheGoldenLogitsAndTokens) {
  const std::string folder = SourcePath("tests/golden/" + GetParam().model);
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  const int64_t last = static_cast<int64_t>(tokens.size()) - 1;
  TestOptions options;
  options.prefill_chunk = GetParam().prefill_chunk;
  options.make_parts = FakeAccelerators(
      {.record = GetParam().record, .make_compute = Emulated(std::make_shared<std::mutex>())});
  const auto logits = LogitsAt(*model, GetParam().layout, options, tokens, {last - 3, last});
  ASSERT_TRUE(logits.ok()) << logits.status();
  const auto golden = (*expected)["last_logits"].get<std::vector<float>>();
  const double tolerance = GetParam().prefill_chunk > 8 ? kRoundedTolerance : kTolerance;
  EXPECT_LT(LargestDifference(logits->back(), golden), tolerance);
}

std::vector<EmulatedCase> Cases() {
  std::vector<EmulatedCase> cases;
  for (const char* model : {"llama_gqa", "qwen3", "gemma2", "glm", "mistral_window", "phi3",
                            "llama_attention_bias", "llama_odd_vocabulary"}) {
    cases.push_back({model, TensorSplit({1})});
  }
  cases.push_back({"llama_gqa", TensorSplit({2, 1}), false, 512});
  for (const char* model :
       {"mixtral", "qwen2_moe", "qwen3_moe", "qwen3_moe_dense_layers", "deepseek_v2",
        "deepseek_v2_groups", "deepseek_v3", "gpt_oss", "gpt_oss_mxfp4"}) {
    cases.push_back({model, TensorSplit({1}), true});
    cases.push_back({model, TensorSplit({1, 1}), true, 5});
  }
  cases.push_back({"mixtral", TensorSplit({1}), false, 512});
  cases.push_back({"gpt_oss_mxfp4", LayerSplit(2), true});
  cases.push_back({"deepseek_v3", BlocksApart(), true});
  for (const TestLayout& layout :
       {TensorSplit({5, 2, 1}), TensorSplit({1, 0, 2}), TensorSplit({1, 1, 1, 1, 1}), LayerSplit(2),
        BlocksApart(), ChangingGroups()}) {
    cases.push_back({"llama_gqa", layout, true});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, EmulatedCuda, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = info.param.model + "_" + info.param.layout.name;
  if (info.param.record) name += "_recorded";
  name += "_chunk_" + std::to_string(info.param.prefill_chunk);
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

MakeRankParts EmulatedParts(bool record) {
  return FakeAccelerators(
      {.record = record, .make_compute = Emulated(std::make_shared<std::mutex>())});
}

// Checkpoints of quantisers, against what their libraries make of them.
TEST(EmulatedCudaQuantized, GivesTheLogitsOfTransformers) {
  for (const char* kind :
       {"fp8_tensor", "fp8_channel", "fp8_block", "gptq_g32", "gptq_g128_v2", "gptq_int8_row",
        "awq_g64", "ct_int4_sym", "ct_int4_asym", "bnb_nf4", "bnb_fp4", "bnb_int8"}) {
    const std::string folder = SourcePath("tests/golden/quantized/") + kind;
    const auto model = OpenTestModel(folder);
    ASSERT_TRUE(model.ok()) << model.status();
    const auto expected = ReadJsonFile(folder + "/expected.json");
    ASSERT_TRUE(expected.ok());
    const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
    const auto golden = (*expected)["last_logits"].get<std::vector<float>>();
    TestOptions options;
    options.prefill_chunk = 8;
    options.make_parts = EmulatedParts(false);
    const auto logits =
        LogitsAt(*model, LayerSplit(2), options, tokens, {static_cast<int64_t>(tokens.size()) - 1});
    ASSERT_TRUE(logits.ok()) << kind << ": " << logits.status();
    EXPECT_LT(LargestDifference(logits->back(), golden), kTolerance) << kind;
  }
}

// A rounded KV cache: as far from the CPU's as rounding a last bit otherwise takes, which is far
// less than rounding at all.
TEST(EmulatedCudaKvTypes, GiveWhatTheCpuGives) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<int32_t> tokens = {1, 5, 9, 2, 8, 3, 7, 4, 6, 11, 20, 13, 2, 9, 30, 12};
  const auto run = [&](const WeightFormat& type, const MakeRankParts& parts) {
    TestOptions options;
    options.kv_type = &type;
    options.prefill_chunk = 8;
    options.make_parts = parts;
    const auto logits = LogitsAt(*model, TensorSplit({2, 1}), options, tokens, {12, 15});
    EXPECT_TRUE(logits.ok()) << type.name << ": " << logits.status();
    return logits.ok() ? logits->back() : std::vector<float>();
  };
  const std::vector<float> rounded = run(kE4M3Format, nullptr);
  const double rounding = LargestDifference(rounded, run(kF32Format, nullptr));
  EXPECT_GT(rounding, 1e-5);
  EXPECT_LT(LargestDifference(run(kE4M3Format, EmulatedParts(true)), rounded), rounding / 3);
}

// Tokens drawn on the device, in recorded steps too, are those of the CPU: the logits differ by
// less than any of these draws is from another token.
TEST(EmulatedCudaSampling, DrawsTheTokensOfTheCpu) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<SamplerOptions> ways = {
      {.temperature = 1.2f, .seed = 11},
      {.temperature = 0.7f, .top_k = 20, .top_p = 0.9f, .repetition_penalty = 1.3f, .seed = 5},
      {.temperature = 1, .min_p = 0.1f, .seed = 6},
      {.repetition_penalty = 1.5f}};
  std::set<std::vector<int32_t>> texts;
  for (const SamplerOptions& sampler : ways) {
    const auto generate = [&](const TestLayout& layout, const MakeRankParts& parts) {
      std::vector<int32_t> ids;
      TestOptions options;
      options.prefill_chunk = 8;
      options.make_parts = parts;
      const absl::Status status =
          RunEngines(*model, layout, options, [&](Engine& engine, Communicator& world) {
            const std::vector<int32_t> prompt = {1, 5, 9, 2, 8, 3, 7, 4, 6, 11};
            const GenerateOptions wanted = {
                .max_tokens = 12, .sampler = world.rank() == 0 ? sampler : SamplerOptions{}};
            const auto result = Generate(engine, world, prompt, wanted, nullptr);
            if (world.rank() == 0 && result.ok()) ids = result->ids;
            return result.status();
          });
      EXPECT_TRUE(status.ok()) << layout.name << ": " << status;
      return ids;
    };
    const std::vector<int32_t> expected = generate(TensorSplit({1}), nullptr);
    EXPECT_EQ(expected.size(), 12);
    texts.insert(expected);
    for (const TestLayout& layout : {TensorSplit({2, 1}), BlocksApart(), ChangingGroups()}) {
      EXPECT_EQ(generate(layout, nullptr), expected) << layout.name;
    }
    for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({2, 1}), BlocksApart()}) {
      EXPECT_EQ(generate(layout, EmulatedParts(true)), expected) << layout.name;
    }
  }
  EXPECT_EQ(texts.size(), ways.size()) << "each way draws another text";
}

// A second stack of layers, whose ops are those of the first.
TEST(EmulatedCudaDepth, GivesWhatTheCpuGives) {
  const auto model = OpenTestModel(SourcePath("tests/golden/moshi"));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto run = [&](const TestLayout& layout, const MakeRankParts& parts) {
    std::vector<std::vector<float>> logits;
    const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
      for (int64_t frame = 0; frame < 2; ++frame) {
        absl::Status status = engine.Forward({1, -1, 3, 4, 5}, frame, 0);
        for (int step = 0; step < 2 && status.ok(); ++step) {
          status = engine.ForwardDepth(step, {step + 1});
          if (world.rank() == 0)
            logits.emplace_back(engine.logits().begin(), engine.logits().end());
        }
        if (!status.ok()) return status;
      }
      return absl::OkStatus();
    };
    TestOptions options;
    options.make_parts = parts;
    const absl::Status status = RunEngines(*model, layout, options, body);
    EXPECT_TRUE(status.ok()) << status;
    return logits;
  };
  const auto expected = run(TensorSplit({1}), nullptr);
  ASSERT_EQ(expected.size(), 4);
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({2, 1})}) {
    const auto logits = run(layout, EmulatedParts(false));
    ASSERT_EQ(logits.size(), expected.size()) << layout.name;
    for (size_t i = 0; i < logits.size(); ++i) {
      EXPECT_LT(LargestDifference(logits[i], expected[i]), kTolerance) << layout.name << " " << i;
    }
  }
}

// Greedy text from quantised weights, which the kernels arrange in their own order.
TEST(EmulatedCudaStories, GreedyTextOfEachFormat) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TestDataDirectory() + "/models/tiny/stories260K/gguf/";
  const auto json = ReadJsonFile(folder + "expected.json");
  ASSERT_TRUE(json.ok()) << json.status();
  for (const std::string format : {"f16", "bf16", "q8_0", "q4_0"}) {
    const std::string file = "stories260K-" + format + ".gguf";
    const auto model = OpenTestModel(folder + file);
    ASSERT_TRUE(model.ok()) << model.status();
    auto ids = (*json)["files"][file]["greedy_after_prompt"]["new_ids"].get<std::vector<int32_t>>();
    ids.resize(std::min<size_t>(ids.size(), 8));
    TestOptions options;
    options.make_parts = FakeAccelerators(
        {.record = true, .make_compute = Emulated(std::make_shared<std::mutex>())});
    const auto got = GreedyTokens(*model, TensorSplit({2, 1}), options, {1, 403, 407, 261, 378},
                                  static_cast<int64_t>(ids.size()), {1, 2});
    ASSERT_TRUE(got.ok()) << format << ": " << got.status();
    EXPECT_EQ(*got, ids) << format;
  }
}

}  // namespace
}  // namespace tprun
