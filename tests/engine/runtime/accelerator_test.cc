// The runtime on devices whose memory the host does not reach, faked (fake_accelerator.h): it
// touches that memory by copies and kernels alone, and gives the same as on the CPU.
#include <string>

#include "base/json.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

constexpr double kTolerance = 1e-4;  // sums of float32 in another order

struct Devices {
  std::string name;
  MakeRankParts make;
};

struct AcceleratorCase {
  std::string model;
  TestLayout layout;
  Devices devices;
};

class Accelerator : public testing::TestWithParam<AcceleratorCase> {};

TEST_P(Accelerator, GivesTheGoldenLogitsAndTokens) {
  const std::string folder = SourcePath("tests/golden/" + GetParam().model);
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  const int64_t last = static_cast<int64_t>(tokens.size()) - 1;
  TestOptions options;
  options.prefill_chunk = 9;
  options.make_parts = GetParam().devices.make;
  const auto logits = LogitsAt(*model, GetParam().layout, options, tokens, {last - 3, last});
  ASSERT_TRUE(logits.ok()) << logits.status();
  const auto golden = (*expected)["last_logits"].get<std::vector<float>>();
  EXPECT_LT(LargestDifference(logits->back(), golden), kTolerance);
  const auto greedy = (*expected)["greedy_ids"].get<std::vector<int32_t>>();
  const auto ids = GreedyTokens(*model, GetParam().layout, options, tokens, greedy.size(), {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, greedy);
}

FakeOptions SumBuffers() {
  return {.record = true, .sums_in_buffers = std::make_shared<std::atomic<int>>(0)};
}

std::vector<AcceleratorCase> Cases() {
  std::vector<AcceleratorCase> cases;
  const std::vector<Devices> devices = {{"staged", FakeAccelerators({})},
                                        {"recorded", FakeAccelerators({.record = true})},
                                        {"sum_buffers", FakeAccelerators(SumBuffers())},
                                        {"mixed", FakeAcceleratorsAndCpus({})}};
  for (const Devices& device : devices) {
    for (const char* model : {"llama_gqa", "qwen3", "gemma2"}) {
      for (const TestLayout& layout : AllLayouts()) cases.push_back({model, layout, device});
    }
    for (const char* model : {"llama_odd_vocabulary", "llama_attention_bias", "llama_tied"}) {
      cases.push_back({model, TensorSplit({5, 2, 1}), device});
    }
    for (const char* model : {"mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3"}) {
      cases.push_back({model, TensorSplit({1, 1}), device});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, Accelerator, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name =
      info.param.devices.name + "_" + info.param.model + "_" + info.param.layout.name;
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

// Attention and MLP of each layer form their sums there.
TEST(SumBuffers, TakeTheSumsOfAllBlocks) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  FakeOptions fake = SumBuffers();
  TestOptions options;
  options.make_parts = FakeAccelerators(fake);
  const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
    RETURN_IF_ERROR(engine.Forward({{0, 0, {1}}}));
    return world.Barrier();
  };
  EXPECT_EQ(RunEngines(*model, TensorSplit({2, 1}), options, body), absl::OkStatus());
  const int layers = static_cast<int>(model->spec.layers.size());
  EXPECT_EQ(*fake.sums_in_buffers, 2 * 2 * layers) << "attention and MLP on both ranks";
}

// Steps of three sequences at other positions each time, from one recording.
TEST(Recording, ServesEveryLaterStepOfAsManyTokens) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<int32_t> prompt = {1, 5, 9, 2, 8, 3, 7};
  // Ids of `steps` steps, each token the likeliest, and the logits after them.
  const auto run = [&](const MakeRankParts& make, std::vector<int32_t>* ids) {
    TestOptions options;
    options.batch = 3;
    options.make_parts = make;
    std::vector<float> logits;
    const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
      std::vector<int32_t> next = {4, 6, 8};
      RETURN_IF_ERROR(
          engine.Forward({{2, 0, prompt}, {0, 0, {prompt.data(), 2}}, {1, 0, {prompt.data(), 5}}}));
      const std::vector<int64_t> lengths = {2, 5, 7};
      for (int step = 0; step < 6; ++step) {
        std::vector<SequenceRun> runs;
        for (int s : {1, 0, 2}) runs.push_back({s, lengths[s] + step, {&next[s], 1}});
        const auto output = step < 5 ? ForwardOutput::kGreedy : ForwardOutput::kLogits;
        RETURN_IF_ERROR(engine.Forward(runs, output));
        std::vector<int32_t> got(3);
        if (world.rank() == 0 && step < 5) {
          std::copy_n(engine.chosen_ids().begin(), 3, got.begin());
          ids->insert(ids->end(), got.begin(), got.end());
        }
        RETURN_IF_ERROR(world.Broadcast(got.data(), 12, 0));
        next = {got[1], got[0], got[2]};
      }
      if (world.rank() == 0) logits.assign(engine.logits().begin(), engine.logits().end());
      return absl::OkStatus();
    };
    const absl::Status status = RunEngines(*model, TensorSplit({2, 1}), options, body);
    EXPECT_TRUE(status.ok()) << status;
    return logits;
  };
  std::vector<int32_t> on_cpu, recorded;
  const std::vector<float> expected = run(nullptr, &on_cpu);
  const auto launches = std::make_shared<std::atomic<int>>(0);
  const std::vector<float> logits = run(FakeAccelerators({true, launches}), &recorded);
  EXPECT_EQ(recorded, on_cpu);
  EXPECT_LT(LargestDifference(logits, expected), kTolerance);
  // Of five greedy steps the first runs as it is, on both ranks.
  EXPECT_EQ(*launches, 2 * 4);
}

TEST(Recording, IsNotDoneWhereARankCannot) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto launches = std::make_shared<std::atomic<int>>(0);
  const MakeRankParts able = FakeAccelerators({true, launches});
  const MakeRankParts unable = FakeAccelerators({false, launches});
  TestOptions options;
  options.make_parts = [&](Communicator& world, ThreadPool& pool) {
    return world.rank() == 0 ? able(world, pool) : unable(world, pool);
  };
  const auto ids = GreedyTokens(*model, TensorSplit({1, 1}), options, {1, 2, 3}, 6, {});
  const auto expected = GreedyTokens(*model, TensorSplit({1, 1}), {}, {1, 2, 3}, 6, {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, *expected);
  EXPECT_EQ(*launches, 0);
}

// A rank has no memory left for its recording: all go on without.
TEST(Recording, GoesOnWithoutWhereItFailsOnARank) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto launches = std::make_shared<std::atomic<int>>(0);
  const MakeRankParts able = FakeAccelerators({true, launches});
  const MakeRankParts unable =
      FakeAccelerators({.record = true,
                        .launches = launches,
                        .capture_error = absl::ResourceExhaustedError("full")});
  TestOptions options;
  options.make_parts = [&](Communicator& world, ThreadPool& pool) {
    return world.rank() == 0 ? able(world, pool) : unable(world, pool);
  };
  const auto ids = GreedyTokens(*model, TensorSplit({1, 1}), options, {1, 2, 3}, 6, {});
  const auto expected = GreedyTokens(*model, TensorSplit({1, 1}), {}, {1, 2, 3}, 6, {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, *expected);
  EXPECT_EQ(*launches, 0);
  const auto body = [](Engine& engine, Communicator&) -> absl::Status {
    for (int64_t position = 0; position < 4; ++position) {
      RETURN_IF_ERROR(engine.Forward({{0, position, {1}}}));
    }
    return engine.recording_problem();
  };
  const absl::Status problem = RunEngines(*model, TensorSplit({1, 1}), options, body);
  EXPECT_EQ(problem.code(), absl::StatusCode::kResourceExhausted) << problem;
  EXPECT_THAT(std::string(problem.message()), testing::HasSubstr("rank 1: full"));
}

}  // namespace
}  // namespace tprun
