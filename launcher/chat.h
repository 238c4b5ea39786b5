#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/runtime/sampler.h"
#include "launcher/rank_session.h"

namespace tprun {

struct ChatOptions {
  std::string system;
  std::string first_message;  // "": the first one is read as the others are
  int64_t max_tokens = -1;    // of an answer; below 0: as the context has room for
  SamplerOptions sampler;
  bool quiet = false;
};

// InvalidArgument or NotFound when no conversation can be had with the model.
absl::Status CheckChat(const ChatOptions& options, const PreparedModel& model);

// A conversation on standard input and output: a line is a message, its answer is written as it is
// made. Every rank calls it; rank 0 reads and writes. Ends with the input.
absl::Status RunChat(const ChatOptions& options, RankSession& session);

}  // namespace tprun
