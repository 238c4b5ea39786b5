#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Several sequences in one Forward give what each gives alone.

namespace tprun {
namespace {

// Sums of float32 in another order.
constexpr double kTolerance = 1e-4;

struct Prompt {
  int sequence;
  std::vector<int32_t> ids;
};

// Of different lengths, not in the order of the sequences.
const std::vector<Prompt> kPrompts = {{2, {1, 5, 9, 2, 8, 3, 7}},
                                      {0, {4}},
                                      {3, {6, 6, 1, 2, 3, 4, 5, 9, 8, 7, 30, 31}},
                                      {1, {3, 1, 4}}};
const std::vector<int32_t> kNext = {11, 12, 13, 14, 15, 16, 17, 18};  // two decode steps

using Logits = std::vector<std::vector<float>>;  // [step * prompts], rank 0's

void Append(const Engine& engine, int64_t runs, Logits* logits) {
  if (engine.logits().empty()) return;  // not rank 0
  const int64_t vocab = engine.spec().vocab;
  ASSERT_EQ(engine.logits().size(), runs * vocab);
  for (int64_t run = 0; run < runs; ++run) {
    const auto row = engine.logits().subspan(run * vocab, vocab);
    logits->emplace_back(row.begin(), row.end());
  }
}

// The runs of step 0 (the prompts), 1 or 2.
std::vector<SequenceRun> RunsOf(int step) {
  std::vector<SequenceRun> runs;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto length = static_cast<int64_t>(kPrompts[i].ids.size());
    if (step == 0) {
      runs.push_back({kPrompts[i].sequence, 0, kPrompts[i].ids});
    } else {
      const int32_t* next = &kNext[(step - 1) * kPrompts.size() + i];
      runs.push_back({kPrompts[i].sequence, length + step - 1, {next, 1}});
    }
  }
  return runs;
}

int32_t FirstOfLargest(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct BatchCase {
  std::string model;
  TestLayout layout;
};

class Batch : public testing::TestWithParam<BatchCase> {
 protected:
  void SetUp() override {
    auto model = OpenTestModel(SourcePath("tests/golden/" + GetParam().model));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  // Runs `body` on every rank.
  void Run(int64_t chunk, const std::function<absl::Status(Engine&)>& body) {
    TestOptions options;
    options.batch = 4;
    options.prefill_chunk = chunk;
    const absl::Status status =
        RunEngines(model_, GetParam().layout, options,
                   [&](Engine& engine, Communicator&) { return body(engine); });
    ASSERT_TRUE(status.ok()) << status;
  }
  TestModel model_;
};

TEST_P(Batch, GivesWhatEachSequenceGivesAlone) {
  Logits alone;
  Run(512, [&](Engine& engine) -> absl::Status {
    for (int step : {0, 1, 2}) {
      for (const SequenceRun& run : RunsOf(step)) {
        RETURN_IF_ERROR(engine.Forward({run}));
        Append(engine, 1, &alone);
      }
    }
    return absl::OkStatus();
  });
  ASSERT_EQ(alone.size(), 12);
  for (int64_t chunk : {512, 5, 1}) {
    Logits together;
    Run(chunk, [&](Engine& engine) -> absl::Status {
      for (int step : {0, 1, 2}) {
        RETURN_IF_ERROR(engine.Forward(RunsOf(step)));
        Append(engine, kPrompts.size(), &together);
      }
      return absl::OkStatus();
    });
    ASSERT_EQ(together.size(), alone.size());
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_LT(LargestDifference(together[i], alone[i]), kTolerance)
          << "chunk " << chunk << ", " << i;
    }
  }
  // The sequences do differ, or the above would say little.
  EXPECT_GT(LargestDifference(alone[0], alone[1]), 100 * kTolerance);
}

TEST_P(Batch, GreedyIsTheLargestLogit) {
  Logits logits;
  std::vector<int32_t> ids;
  Run(5, [&](Engine& engine) -> absl::Status {
    for (int step : {0, 1, 2}) {
      RETURN_IF_ERROR(engine.Forward(RunsOf(step)));
      Append(engine, kPrompts.size(), &logits);
    }
    for (int step : {0, 1, 2}) {
      RETURN_IF_ERROR(engine.Forward(RunsOf(step), ForwardOutput::kGreedy));
      EXPECT_TRUE(engine.logits().empty());
      if (engine.chosen_ids().empty()) continue;  // another rank, and thread
      ids.insert(ids.end(), engine.chosen_ids().begin(), engine.chosen_ids().end());
    }
    return absl::OkStatus();
  });
  ASSERT_EQ(ids.size(), logits.size());
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], FirstOfLargest(logits[i])) << i;
}

TEST_P(Batch, RefusesWhatDoesNotFit) {
  const int32_t id = 1, unknown = 1 << 20;
  const auto code = [](const absl::Status& status) { return status.code(); };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  Run(512, [&](Engine& engine) -> absl::Status {
    const absl::Span<const int32_t> one(&id, 1);
    EXPECT_EQ(code(engine.Forward({{0, 0, one}, {0, 1, one}})), kInvalid);  // twice
    EXPECT_EQ(code(engine.Forward({{0, 0, one}, {4, 0, one}})), kInvalid);
    EXPECT_EQ(code(engine.Forward({{-1, 0, one}})), kInvalid);
    EXPECT_EQ(code(engine.Forward({{0, 0, one}, {1, 0, {}}})), kInvalid);
    EXPECT_EQ(code(engine.Forward({{0, -1, one}})), kInvalid);
    EXPECT_EQ(code(engine.Forward({{0, engine.options().context, one}})), kInvalid);
    EXPECT_EQ(code(engine.Forward({{0, 0, {&unknown, 1}}})), kInvalid);
    RETURN_IF_ERROR(engine.Forward(absl::Span<const SequenceRun>()));  // nothing to do
    EXPECT_TRUE(engine.logits().empty());
    return absl::OkStatus();
  });
}

std::vector<BatchCase> Cases() {
  std::vector<BatchCase> cases;
  const std::vector<TestLayout> layouts = {
      TensorSplit({1}), TensorSplit({1, 2}), TensorSplit({5, 2, 1}), TensorSplit({1, 0, 2, 3}),
      LayerSplit(2),    BlocksApart(),       ChangingGroups()};
  for (const char* model : {"llama_gqa", "llama_odd_vocabulary", "mistral_window", "qwen3",
                            "gemma2", "llama_attention_bias"}) {
    for (const TestLayout& layout : layouts) cases.push_back({model, layout});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, Batch, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = info.param.model + "_" + info.param.layout.name;
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace tprun
