#include <string>
#include <vector>

#include "base/json.h"
#include "engine/runtime/generate_frames.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Several streams of tokens in and two stacks: Moshi's temporal and depth transformers against
// Hugging Face transformers (tests/golden/make_tiny_moshi.py) and against the shared test data, on
// every layout.

namespace tprun {
namespace {

constexpr double kTolerance = 1e-4;  // as golden_logits_test.cc

struct Frame {
  std::vector<float> text;
  std::vector<std::vector<float>> audio;  // of each step, if asked for
};

// Teacher-forced: `streams` [frames, streams]; `depth_tokens` [frames][steps], nothing where empty.
// The first `prompt` frames go in at once.
absl::StatusOr<std::vector<Frame>> RunFrames(const TestModel& model, const TestLayout& layout,
                                             const std::vector<int32_t>& streams,
                                             const std::vector<std::vector<int32_t>>& depth_tokens,
                                             int64_t prompt, Activations activations) {
  std::vector<Frame> frames;
  const int64_t width = model.spec.streams;
  const auto count = static_cast<int64_t>(streams.size()) / width;
  const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
    for (int64_t done = 0; done < count;) {
      const int64_t now = done == 0 ? prompt : 1;
      absl::Status status =
          engine.Forward(absl::MakeConstSpan(streams).subspan(done * width, now * width), done, 0);
      if (!status.ok()) return status;
      done += now;
      Frame frame;
      frame.text.assign(engine.logits().begin(), engine.logits().end());
      for (size_t step = 0; step < depth_tokens[done - 1].size(); ++step) {
        status = engine.ForwardDepth(static_cast<int>(step), {depth_tokens[done - 1][step]});
        if (!status.ok()) return status;
        frame.audio.emplace_back(engine.logits().begin(), engine.logits().end());
      }
      if (world.rank() == 0) frames.push_back(std::move(frame));
    }
    return absl::OkStatus();
  };
  const absl::Status status =
      RunEngines(model, layout, {.prefill_chunk = 3, .activations = activations}, body);
  if (!status.ok()) return status;
  return frames;
}

struct GoldenMoshi {
  TestModel model;
  Json expected;
};

absl::StatusOr<GoldenMoshi> OpenGoldenMoshi() {
  const std::string folder = SourcePath("tests/golden/moshi");
  auto model = OpenTestModel(folder);
  if (!model.ok()) return model.status();
  auto expected = ReadJsonFile(folder + "/expected.json");
  if (!expected.ok()) return expected.status();
  model->spec.context_length = 64;  // more than its window of 16
  return GoldenMoshi{*std::move(model), *std::move(expected)};
}

class MoshiLayouts : public testing::TestWithParam<TestLayout> {};

TEST_P(MoshiLayouts, EqualTransformers) {
  const auto golden = OpenGoldenMoshi();
  ASSERT_TRUE(golden.ok()) << golden.status();
  const TestModel* model = &golden->model;
  const Json* expected = &golden->expected;
  std::vector<int32_t> streams;
  for (const Json& frame : (*expected)["streams"]) {
    for (const Json& id : frame) streams.push_back(id.get<int32_t>());
  }
  const auto all_tokens = (*expected)["depth_tokens"].get<std::vector<std::vector<int32_t>>>();
  const auto depth_frames = (*expected)["depth_frames"].get<std::vector<int>>();
  std::vector<std::vector<int32_t>> depth_tokens(all_tokens.size());
  for (int frame : depth_frames) depth_tokens[frame] = all_tokens[frame];
  constexpr int64_t kPrompt = 7;  // the rest are 33 decode steps
  // Weights as they lie, and in tiles.
  for (const Activations activations : {Activations::kF32, Activations::kInt16}) {
    const auto frames = RunFrames(*model, GetParam(), streams, depth_tokens, kPrompt, activations);
    ASSERT_TRUE(frames.ok()) << frames.status();
    ASSERT_EQ(frames->size(), all_tokens.size() - kPrompt + 1);
    size_t compared = 0;
    for (size_t i = 0; i < frames->size(); ++i) {
      const size_t frame = i + kPrompt - 1;
      const auto text = (*expected)["text_logits"][frame].get<std::vector<float>>();
      EXPECT_LT(LargestDifference((*frames)[i].text, text), kTolerance) << frame;
      for (size_t d = 0; d < depth_frames.size(); ++d) {
        if (depth_frames[d] != static_cast<int>(frame)) continue;
        const auto audio = (*expected)["depth_logits"][d].get<std::vector<std::vector<float>>>();
        ASSERT_EQ((*frames)[i].audio.size(), audio.size());
        for (size_t step = 0; step < audio.size(); ++step, ++compared) {
          EXPECT_LT(LargestDifference((*frames)[i].audio[step], audio[step]), kTolerance)
              << frame << ", step " << step;
        }
      }
    }
    EXPECT_EQ(compared, 24);
  }
}

// What it says and what it sounds like when it hears something, on its own tokens.
TEST_P(MoshiLayouts, GeneratesTheFramesOfTransformers) {
  const auto golden = OpenGoldenMoshi();
  ASSERT_TRUE(golden.ok()) << golden.status();
  const TestModel* model = &golden->model;
  const Json* expected = &golden->expected;
  ASSERT_GT((*expected)["generated_margin"], 10 * kTolerance);
  FramesOptions options;
  for (const Json& frame : (*expected)["heard"]) {
    for (const Json& id : frame) options.given.push_back(id.get<int32_t>());
  }
  options.frames = static_cast<int64_t>((*expected)["heard"].size());
  std::vector<std::vector<int32_t>> frames;
  const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
    const auto result = GenerateFrames(engine, world, options, [&](absl::Span<const int32_t> ids) {
      frames.emplace_back(ids.begin(), ids.end());
      return true;
    });
    EXPECT_EQ(result.ok() ? result->steps : 0, options.frames + 1);
    return result.status();
  };
  const absl::Status status = RunEngines(*model, GetParam(), {}, body);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Json(frames), (*expected)["generated"]);
}

TEST_P(MoshiLayouts, ShardsCoverEveryTensorOnce) {
  const auto model = OpenTestModel(SourcePath("tests/golden/moshi"));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<Placement> placements = GetParam().place(model->spec);
  int64_t bytes = 0, whole = 0;
  for (const TensorSpec& tensor : model->spec.tensors) {
    if (tensor.split == SplitRule::kReplicate) continue;
    whole += ElementCount(tensor) * 4;
    const Placement& placement = placements[tensor.block];
    for (int index = 0; index < static_cast<int>(placement.ranks.size()); ++index) {
      bytes += ShardBytes(tensor, ShardOf(model->spec, tensor, placement, index));
    }
  }
  EXPECT_EQ(bytes, whole);
}

INSTANTIATE_TEST_SUITE_P(All, MoshiLayouts, testing::ValuesIn(AllLayouts()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

TEST(Moshi, RefusesWhatDoesNotFit) {
  const auto model = OpenTestModel(SourcePath("tests/golden/moshi"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(CheckGeneratesText(model->spec).ok());
  const auto body = [&](Engine& engine, Communicator&) -> absl::Status {
    EXPECT_FALSE(engine.ForwardDepth(0, {1}).ok());  // before any pass
    EXPECT_FALSE(engine.Forward({1, 2, 3}, 0, 0).ok());
    EXPECT_FALSE(engine.Forward({1, 2, 3, 4, 99}, 0, 0).ok());
    absl::Status status = engine.Forward({1, -1, 3, 4, 5}, 0, 0);
    EXPECT_FALSE(engine.ForwardDepth(1, {1}).ok());  // out of turn
    EXPECT_FALSE(engine.ForwardDepth(0, {1, 2}).ok());
    EXPECT_FALSE(engine.ForwardDepth(0, {-1}).ok());
    EXPECT_TRUE(engine.ForwardDepth(0, {1}).ok());
    EXPECT_TRUE(engine.ForwardDepth(1, {1}).ok());
    EXPECT_FALSE(engine.ForwardDepth(2, {1}).ok());
    return status;
  };
  const absl::Status status = RunEngines(*model, TensorSplit({1}), {}, body);
  EXPECT_TRUE(status.ok()) << status;
}

// The shared data's own arithmetic in float64, with Kyutai's delays between the streams.
TEST(Moshi, EqualsTheSharedData) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TestDataDirectory() + "/models/tiny/moshi-like-tiny";
  auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  model->spec.context_length = 16;  // more than its window of 6
  const ModelSpec& spec = model->spec;
  ASSERT_EQ(static_cast<int>(spec.delays.size()), spec.streams);
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  size_t compared = 0;
  for (size_t b = 0; b < (*expected)["codes_data"].size(); ++b) {
    const Json& codes = (*expected)["codes_data"][b];
    const Json& golden = (*expected)["expected"][b];
    const int frames = static_cast<int>(codes[0].size());
    const auto token = [&](int stream, int frame) {
      const auto initial = static_cast<int32_t>(stream == 0 ? spec.vocab : spec.depth.vocab);
      return frame < 0 ? initial : codes[stream][frame].get<int32_t>();
    };
    std::vector<int32_t> streams;
    std::vector<std::vector<int32_t>> depth_tokens(frames);
    for (int t = 0; t < frames; ++t) {
      for (int k = 0; k < spec.streams; ++k) streams.push_back(token(k, t - 1 - spec.delays[k]));
      for (int q = 0; q < spec.depth.steps; ++q) {
        const int32_t before = token(q, t - spec.delays[q]);
        if (before < 0) break;  // what follows is not told
        depth_tokens[t].push_back(before);
      }
    }
    const auto found =
        RunFrames(*model, TensorSplit({2, 1}), streams, depth_tokens, 1, Activations::kF32);
    ASSERT_TRUE(found.ok()) << found.status();
    for (int t = 0; t < frames; ++t) {
      const auto compare = [&](const Json& logits, const std::vector<float>& mine) {
        if (logits.is_null()) return;
        EXPECT_LT(LargestDifference(mine, logits.get<std::vector<float>>()), kTolerance) << t;
        ++compared;
      };
      // Step t makes the text of frame t - delays[0], and audio q of frame t - delays[q + 1].
      if (t >= spec.delays[0]) compare(golden["text_logits"][t - spec.delays[0]], (*found)[t].text);
      for (size_t q = 0; q < depth_tokens[t].size(); ++q) {
        const int frame = t - spec.delays[q + 1];
        if (frame >= 0) compare(golden["audio_logits"][q][frame], (*found)[t].audio[q]);
      }
    }
  }
  EXPECT_GT(compared, 50);
}

}  // namespace
}  // namespace tprun
