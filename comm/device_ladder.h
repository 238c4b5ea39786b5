#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "comm/peer_options.h"

namespace tprun {

// What a group of ranks exchanges over, as far as it can be told before anything was tried.
struct LadderChoice {
  bool direct = false;  // all memory is the host's: the bootstrap communicator itself
  bool ipc = false;     // try; when the memory cannot be trusted, go on without
  bool nccl = false;
  std::string reason;  // "two GPUs of one host"; for the log
};

// `backend` is auto, nccl, ipc or host; the same result on every rank. FailedPrecondition when the
// one asked for is impossible, InvalidArgument for another name.
absl::StatusOr<LadderChoice> ChooseLadder(absl::Span<const PeerIdentity> ranks,
                                          absl::string_view backend);

}  // namespace tprun
