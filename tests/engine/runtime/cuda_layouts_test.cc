// Every layout on CUDA devices: several ranks may share the one GPU (virtual ranks), and some may
// be on the CPU. Ranks are threads.
#include <string>

#include "base/json.h"
#include "base/status_macros.h"
#include "comm/device_communicator.h"
#include "engine/kernels/make_kernels.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

// Sums of float32 in another order, and the GPU's own exp and sin.
constexpr double kTolerance = 1e-3;
// Of logits of a few units, where activations are rounded to bf16: in matrix products of more than
// 8 tokens with weights of 16 bits.
constexpr double kRoundedTolerance = 0.05;

// Rank r on devices[r % size].
struct DeviceSetup {
  std::string name;
  std::vector<std::string> devices;
  std::string exchange = "auto";
};

MakeRankParts PartsOf(const DeviceSetup& setup) {
  return [setup](Communicator& world, ThreadPool& pool) -> absl::StatusOr<RankParts> {
    RankParts parts;
    ASSIGN_OR_RETURN(parts.device, OpenDevice(setup.devices[world.rank() % setup.devices.size()]));
    ASSIGN_OR_RETURN(parts.kernels, MakeKernelsFor(*parts.device, &pool));
    DeviceCommunicatorOptions options;
    options.backend = setup.exchange;
    ASSIGN_OR_RETURN(parts.exchange, MakeDeviceCommunicator(world, *parts.device, options));
    return parts;
  };
}

#define TPRUN_NEEDS_CUDA()                                           \
  do {                                                               \
    const auto device = OpenDevice("cuda:0");                        \
    if (!device.ok()) GTEST_SKIP() << "no GPU: " << device.status(); \
  } while (false)

const DeviceSetup kOneGpu = {"cuda", {"cuda:0"}};
const DeviceSetup kThroughTheHost = {"host", {"cuda:0"}, "host"};
const DeviceSetup kMixed = {"mixed", {"cuda:0", "cpu"}};

struct CudaCase {
  std::string model;
  TestLayout layout;
  DeviceSetup setup;
};

class CudaLayouts : public testing::TestWithParam<CudaCase> {};

TEST_P(CudaLayouts, GiveTheGoldenLogitsAndTokens) {
  TPRUN_NEEDS_CUDA();
  const std::string folder = SourcePath("tests/golden/" + GetParam().model);
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  const int64_t last = static_cast<int64_t>(tokens.size()) - 1;
  const auto golden = (*expected)["last_logits"].get<std::vector<float>>();
  TestOptions options;
  options.make_parts = PartsOf(GetParam().setup);
  for (int64_t chunk : {512, 5}) {
    options.prefill_chunk = chunk;
    const auto logits = LogitsAt(*model, GetParam().layout, options, tokens, {last - 3, last});
    ASSERT_TRUE(logits.ok()) << logits.status();
    const double tolerance = chunk > 8 ? kRoundedTolerance : kTolerance;
    EXPECT_LT(LargestDifference(logits->back(), golden), tolerance) << "chunk " << chunk;
  }
  const auto greedy = (*expected)["greedy_ids"].get<std::vector<int32_t>>();
  const auto ids = GreedyTokens(*model, GetParam().layout, options, tokens, greedy.size(), {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, greedy);
}

std::vector<CudaCase> Cases() {
  std::vector<CudaCase> cases;
  for (const TestLayout& layout : AllLayouts()) {
    for (const DeviceSetup& setup : {kOneGpu, kThroughTheHost, kMixed}) {
      cases.push_back({"llama_gqa", layout, setup});
    }
  }
  for (const char* model :
       {"llama_mqa", "llama_3_kv_heads", "llama_odd_heads", "llama_odd_vocabulary", "llama_tied",
        "llama_attention_bias", "mistral_window", "qwen2", "qwen3", "gemma2", "glm", "phi3"}) {
    for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({5, 2, 1}), BlocksApart()}) {
      cases.push_back({model, layout, kOneGpu});
    }
  }
  // Mixtures of experts, latent attention, sinks.
  for (const char* model : {"mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2",
                            "deepseek_v2_groups", "deepseek_v3", "gpt_oss", "gpt_oss_mxfp4"}) {
    for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 1}), BlocksApart()}) {
      cases.push_back({model, layout, kOneGpu});
    }
    cases.push_back({model, TensorSplit({1, 1}), kMixed});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, CudaLayouts, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = info.param.setup.name + "_" + info.param.model + "_" + info.param.layout.name;
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

// The stories260K checkpoint in every format, greedy text as the float64 reference has it.
class CudaStories : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(CudaStories, GreedyTextInEveryLayout) {
  TPRUN_NEEDS_CUDA();
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TestDataDirectory() + "/models/tiny/stories260K/";
  const bool gguf = std::string(GetParam().first).rfind("gguf/", 0) == 0;
  auto json = ReadJsonFile(folder + (gguf ? "gguf/expected.json" : GetParam().second));
  ASSERT_TRUE(json.ok()) << json.status();
  const Json& expected = gguf ? (*json)["files"][GetParam().second] : *json;
  const auto ids = expected["greedy_after_prompt"]["new_ids"].get<std::vector<int32_t>>();
  const auto model = OpenTestModel(folder + GetParam().first);
  ASSERT_TRUE(model.ok()) << model.status();
  for (const DeviceSetup& setup : {kOneGpu, kMixed}) {
    for (const TestLayout& layout : AllLayouts()) {
      TestOptions options;
      options.make_parts = PartsOf(setup);
      const auto got =
          GreedyTokens(*model, layout, options, {1, 403, 407, 261, 378}, ids.size(), {1, 2});
      ASSERT_TRUE(got.ok()) << setup.name << ", " << layout.name << ": " << got.status();
      EXPECT_EQ(*got, ids) << setup.name << ", " << layout.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, CudaStories,
    testing::Values(std::pair("hf", "expected.json"),
                    std::pair("hf-bf16-sharded", "hf-bf16-sharded/expected.json"),
                    std::pair("gguf/stories260K-f16.gguf", "stories260K-f16.gguf"),
                    std::pair("gguf/stories260K-q8_0.gguf", "stories260K-q8_0.gguf"),
                    std::pair("gguf/stories260K-q4_0.gguf", "stories260K-q4_0.gguf")),
    [](const auto& info) {
      std::string name = info.param.first;
      for (char& c : name) {
        if (!isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      return name;
    });

// A recorded decode step gives what the same step gives kernel by kernel, for several sequences.
TEST(CudaRecording, GivesWhatTheStepGivesUnrecorded) {
  TPRUN_NEEDS_CUDA();
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<int32_t> prompt = {1, 5, 9, 2, 8, 3, 7};
  const auto run = [&](bool record, const TestLayout& layout) {
    TestOptions options;
    options.batch = 3;
    options.make_parts = PartsOf(kOneGpu);
    options.record_decode = record;
    std::vector<float> all;
    const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
      const auto part = [&](int64_t count) {
        return absl::MakeConstSpan(prompt).subspan(0, count);
      };
      RETURN_IF_ERROR(engine.Forward({{2, 0, part(7)}, {0, 0, part(2)}, {1, 0, part(5)}}));
      const std::vector<int64_t> lengths = {2, 5, 7};
      for (int step = 0; step < 5; ++step) {
        std::vector<SequenceRun> runs;
        for (int s : {1, 0, 2}) runs.push_back({s, lengths[s] + step, {&prompt[step + s], 1}});
        RETURN_IF_ERROR(engine.Forward(runs));
        if (world.rank() == 0) {
          all.insert(all.end(), engine.logits().begin(), engine.logits().end());
        }
      }
      return absl::OkStatus();
    };
    const absl::Status status = RunEngines(*model, layout, options, body);
    EXPECT_TRUE(status.ok()) << status;
    return all;
  };
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({2, 1})}) {
    const std::vector<float> plain = run(false, layout), recorded = run(true, layout);
    ASSERT_FALSE(plain.empty());
    EXPECT_LT(LargestDifference(recorded, plain), kTolerance) << layout.name;
  }
}

}  // namespace
}  // namespace tprun
