#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "comm/peer_options.h"

namespace tprun {

struct DeviceCommunicatorOptions {
  std::string backend = "auto";  // or "nccl", "ipc", "host"
  // auto with ipc and nccl: all-reduces up to this size take ipc's one step, larger ones NCCL's
  // rings. Eight GPUs with NVLink cross over at 256 to 512 KiB.
  int64_t ipc_limit_bytes = int64_t{256} << 10;
  NcclOptions nccl;
  IpcOptions ipc;
};

// A communicator over the memory of the ranks' devices, in the order of each device's stream; a CPU
// device's rank gives host memory, and may be in one group with GPUs. `bootstrap` is the world,
// over host memory; all its ranks call this with the same options. `device` and `bootstrap` outlive
// the result.
//
// The back end is the first of this ladder that the group's devices can do, found out by trying,
// and description() says which and why; Split walks the ladder anew for its group:
//   ipc and nccl   different GPUs that reach each other's memory (written, read back and compared)
//   nccl           different GPUs
//   ipc            GPUs of one process that reach each other's memory; also virtual ranks of one
//   GPU host           through host memory: everything else
// One that is asked for by name and not possible is FailedPrecondition with the reason, on all
// ranks; InvalidArgument for an unknown name.
//
//   ASSIGN_OR_RETURN(auto world, MakeDeviceCommunicator(*bootstrap, *device, {}));
//   ASSIGN_OR_RETURN(auto pair, world->Split({0, 2}));
//   RETURN_IF_ERROR(pair->AllReduceSum(x, x, count, DType::kF32));   // x on the device
//   RETURN_IF_ERROR(device->Synchronize());                          // errors show here at the
//   latest
absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    Communicator& bootstrap, Device& device, const DeviceCommunicatorOptions& options);

}  // namespace tprun
