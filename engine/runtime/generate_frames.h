#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/communicator.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/sampler.h"

namespace tprun {

// Streams that a model of several (Moshi) makes itself, the text and those of its second stack, and
// those that it is given: what it hears.
inline int MadeStreams(const ModelSpec& spec) { return 1 + spec.depth.steps; }
inline int GivenStreams(const ModelSpec& spec) { return spec.streams - MadeStreams(spec); }

struct FramesOptions {
  int64_t frames = 0;          // to make
  std::vector<int32_t> given;  // [frames, GivenStreams]: tokens, -1 for none
  SamplerOptions sampler;
};

struct FramesResult {
  int64_t frames = 0;
  int64_t steps = 0;  // more than the frames by the largest delay
  double seconds = 0;
};

// Takes the tokens of each frame, [MadeStreams], on rank 0; false ends it.
using OnFrame = std::function<bool(absl::Span<const int32_t> tokens)>;

// Steps that `frames` frames take: the streams lag behind each other by spec.delays.
int64_t StepsForFrames(const ModelSpec& spec, int64_t frames);

// Makes frames on sequence 0, from an empty cache: at every step the text's token and then one of
// each audio stream. A stream's token of frame f is made at step f + its delay and goes in at the
// step after that; before there is one, the stream's initial token does (arXiv 2410.00037, section
// 3.4.4). Every rank calls it; options and callback count on rank 0. InvalidArgument: the steps do
// not fit the context, or `given` not the frames.
absl::StatusOr<FramesResult> GenerateFrames(Engine& engine, Communicator& world,
                                            const FramesOptions& options, const OnFrame& on_frame);

}  // namespace tprun
