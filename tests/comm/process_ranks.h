#pragma once

#include <functional>

#include "comm/communicator.h"

namespace tprun {

// Runs `body` once per rank like RunLocalRanks, but each in a process of its own that is forked
// from this one, over communicators that exchange through sockets: for what behaves differently
// between processes, where there is no mpirun. The calling process must not have started threads or
// CUDA. Plain and slow; made for tests.
//
// The result is the error of the lowest failing rank that was not ended by another one's, with
// "rank R: " in front; a rank that dies, or is not done after three times the timeout, is Internal.
absl::Status RunProcessRanks(int world_size, absl::Duration timeout,
                             const std::function<absl::Status(Communicator&)>& body);

}  // namespace tprun
