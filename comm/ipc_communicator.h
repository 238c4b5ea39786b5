#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "comm/peer_options.h"

namespace tprun {

// A communicator of this project's own kernels over memory that the GPUs of one host reach of each
// other (comm/ipc_protocol.h): all-reduce in one step, for the sizes of decode. Every wait in a
// kernel ends after the group's timeout, or when a rank aborts. Collective; see
// CudaModule::make_ipc for what is tried before.
absl::StatusOr<std::unique_ptr<Communicator>> MakeIpcCommunicator(PeerGroup group, Device& device,
                                                                  const IpcOptions& options);

}  // namespace tprun
