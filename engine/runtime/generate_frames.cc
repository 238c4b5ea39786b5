#include "engine/runtime/generate_frames.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "engine/kernels/kernels.h"

namespace tprun {
namespace {

constexpr int32_t kNothing = -1;  // adds nothing to a step's input

int Delay(const ModelSpec& spec, int stream) {
  return spec.delays.empty() ? 0 : spec.delays[stream];
}

int64_t LargestMadeDelay(const ModelSpec& spec) {
  int largest = 0;
  for (int stream = 0; stream < MadeStreams(spec); ++stream) {
    largest = std::max(largest, Delay(spec, stream));
  }
  return largest;
}

// The row behind those of a stream's tokens, which goes in before its first.
int32_t InitialToken(const ModelSpec& spec, int stream) {
  return static_cast<int32_t>(stream == 0 ? spec.vocab : spec.depth.vocab);
}

absl::Status CheckFrames(const Engine& engine, const FramesOptions& options) {
  const ModelSpec& spec = engine.spec();
  if (spec.depth.steps == 0) {
    return absl::InvalidArgumentError(absl::StrCat(spec.name, " makes text, no frames"));
  }
  const int64_t steps = StepsForFrames(spec, options.frames), context = engine.options().context;
  if (options.frames < 0 || steps > context) {
    return absl::InvalidArgumentError(absl::StrCat(options.frames, " frames take ", steps,
                                                   " steps, but the context has ", context,
                                                   ": give fewer frames or a larger --context"));
  }
  const int64_t given = options.frames * GivenStreams(spec);
  if (static_cast<int64_t>(options.given.size()) != given) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens of the streams that the model hears: wanted ", given, ", found ",
                     options.given.size()));
  }
  for (int32_t token : options.given) {
    if (token >= kNothing && token <= InitialToken(spec, 1)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("tokens of the streams that the model hears: ", "wanted -1 to ",
                     InitialToken(spec, 1), ", found ", token));
  }
  return absl::OkStatus();
}

// Rank 0's part: which token each stream has where, and what is drawn.
class FrameMaker {
 public:
  FrameMaker(const ModelSpec& spec, const FramesOptions& options)
      : spec_(spec),
        options_(options),
        sampler_(options.sampler),
        kernels_(MakeReferenceKernels()),
        made_(StepsForFrames(spec, options.frames) * MadeStreams(spec)) {}

  std::vector<int32_t> Inputs(int64_t step) const {
    std::vector<int32_t> inputs(spec_.streams);
    for (int stream = 0; stream < spec_.streams; ++stream) {
      const int64_t frame = step - 1 - Delay(spec_, stream);
      inputs[stream] = frame < 0 ? InitialToken(spec_, stream) : TokenOf(frame, stream);
    }
    return inputs;
  }

  // The token of `stream` that `step` makes; the initial one where that is of no frame yet.
  absl::StatusOr<int32_t> Draw(int64_t step, int stream, absl::Span<const float> logits) {
    const int64_t frame = step - Delay(spec_, stream);
    if (frame < 0) return InitialToken(spec_, stream);
    std::vector<float> scratch(logits.begin(), logits.end());
    const SampleRequest request = sampler_.Next();
    const auto vocab = static_cast<int64_t>(scratch.size());
    const std::vector<uint32_t> seen(SeenWords(vocab));
    BestLogit best;
    RETURN_IF_ERROR(kernels_->Sample(scratch.data(), &request, 1, vocab, seen.data(), &best));
    if (best.id < 0) return NoFiniteLogit();
    made_[frame * MadeStreams(spec_) + stream] = best.id;
    return best.id;
  }

  absl::Span<const int32_t> Frame(int64_t frame) const {
    return absl::MakeConstSpan(made_).subspan(frame * MadeStreams(spec_), MadeStreams(spec_));
  }

 private:
  int32_t TokenOf(int64_t frame, int stream) const {
    const int made = MadeStreams(spec_);
    if (stream < made) return made_[frame * made + stream];
    if (frame >= options_.frames) return kNothing;  // while the last frames come out
    return options_.given[frame * GivenStreams(spec_) + stream - made];
  }

  const ModelSpec& spec_;
  const FramesOptions& options_;
  Sampler sampler_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<int32_t> made_;  // [steps, MadeStreams], by frame
};

// What rank 0 has drawn for `stream`, on every rank.
absl::StatusOr<int32_t> SharedDraw(Engine& engine, Communicator& world, FrameMaker& maker,
                                   int64_t step, int stream) {
  int32_t token = 0;
  if (world.rank() == 0) {
    ASSIGN_OR_RETURN(token, maker.Draw(step, stream, engine.logits()));
  }
  RETURN_IF_ERROR(world.Broadcast(&token, sizeof(token), 0));
  return token;
}

}  // namespace

int64_t StepsForFrames(const ModelSpec& spec, int64_t frames) {
  return frames == 0 ? 0 : frames + LargestMadeDelay(spec);
}

absl::StatusOr<FramesResult> GenerateFrames(Engine& engine, Communicator& world,
                                            const FramesOptions& options, const OnFrame& on_frame) {
  const ModelSpec& spec = engine.spec();
  const bool first_rank = world.rank() == 0;
  RETURN_IF_ERROR(
      AgreeOnStatus(world, first_rank ? CheckFrames(engine, options) : absl::OkStatus()));
  int64_t frames = options.frames;
  RETURN_IF_ERROR(world.Broadcast(&frames, sizeof(frames), 0));
  FrameMaker maker(spec, options);
  FramesResult result;
  const absl::Time start = absl::Now();
  const int64_t steps = StepsForFrames(spec, frames), delay = LargestMadeDelay(spec);
  int32_t go_on = 1;
  for (; result.steps < steps && go_on != 0; ++result.steps) {
    std::vector<int32_t> inputs(spec.streams);
    if (first_rank) inputs = maker.Inputs(result.steps);
    const auto bytes = static_cast<int64_t>(inputs.size() * sizeof(inputs[0]));
    RETURN_IF_ERROR(world.Broadcast(inputs.data(), bytes, 0));
    RETURN_IF_ERROR(engine.Forward(inputs, result.steps, 0));
    for (int stream = 0;; ++stream) {
      ASSIGN_OR_RETURN(const int32_t token, SharedDraw(engine, world, maker, result.steps, stream));
      if (stream == spec.depth.steps) break;
      RETURN_IF_ERROR(engine.ForwardDepth(stream, {token}));
    }
    if (result.steps < delay) continue;
    if (first_rank) go_on = on_frame(maker.Frame(result.frames)) ? 1 : 0;
    RETURN_IF_ERROR(world.Broadcast(&go_on, sizeof(go_on), 0));
    ++result.frames;
  }
  result.seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return result;
}

}  // namespace tprun
