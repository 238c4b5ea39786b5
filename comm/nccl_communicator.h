#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "comm/peer_options.h"

namespace tprun {

// True when the module was built with nccl.h and the library loads.
bool NcclLoads();
// "2.28.9" of the library that loads, "" without one.
std::string NcclVersion();

// A communicator over NCCL on the device's stream: collective over the ranks of `group`, which have
// a GPU each. It is non-blocking, so every wait has the group's timeout, and when a rank is lost or
// aborts the work that is stuck on the stream is ended (ncclCommAbort) and the error told by the
// wait. Sends wait for their receives.
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(PeerGroup group, Device& device,
                                                                   const NcclOptions& options);

}  // namespace tprun
