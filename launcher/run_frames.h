#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/runtime/sampler.h"
#include "launcher/prepare.h"
#include "launcher/rank_session.h"

namespace tprun {

// `tprun run` of a model of several streams (Moshi): tokens of sound in, of text and sound out.
struct FramesRunOptions {
  std::string codes;   // a JSON file: [frames][streams that the model hears]; "": none
  int64_t frames = 0;  // to make, at most
  SamplerOptions sampler;
  bool json = false;
  bool quiet = false;
};

// Whether the model is one of these.
inline bool MakesFrames(const ModelSpec& spec) { return spec.streams > 1; }

// What can be told before any rank is started.
absl::Status CheckFramesRun(const FramesRunOptions& options, const PreparedModel& model);

// Every rank's part. Rank 0 writes each frame as a line of token ids, the text's first, or all as
// JSON at the end.
absl::Status RunFrames(const FramesRunOptions& options, RankSession& session);

}  // namespace tprun
