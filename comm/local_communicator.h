#pragma once

#include <functional>

#include "comm/communicator.h"

namespace tprun {

// Runs `body` once per rank, each in a thread of its own, over communicators that exchange through
// the memory of this process; returns when all have ended. The result is the error of the rank that
// failed first (its failure aborts the others), with "rank R: " in front.
//
//   absl::Status status = RunLocalRanks(3, absl::Seconds(30), [](Communicator& comm) {
//     return comm.Barrier();
//   });
absl::Status RunLocalRanks(int world_size, absl::Duration timeout,
                           const std::function<absl::Status(Communicator&)>& body);

}  // namespace tprun
