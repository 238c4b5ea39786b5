#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "comm/device_probe.h"
#include "comm/peer_options.h"

namespace tprun {

class Kernels;  // engine/kernels/kernels.h

// What libtprun_cuda.so gives: everything that needs CUDA, cuBLASLt or NCCL. The program itself
// links none of them, so it also starts on a machine without driver or toolkit. C++ types cross the
// border because program and module come from one build, which `interface_digest` tells.
struct CudaModule {
  const char* interface_digest;  // of the headers that both sides were compiled with
  const char* description;       // "CUDA 13.0 for sm_90"

  // "cuda:index". Unavailable with the reason when there is no driver, no GPU or an old driver,
  // InvalidArgument when there are fewer GPUs, Unimplemented for a GPU without machine code.
  absl::StatusOr<std::unique_ptr<Device>> (*open_device)(int index);

  absl::StatusOr<std::unique_ptr<DeviceProbe>> (*open_probe)();

  // `device` is one of open_device, and outlives the result. With `fp8_activations` products of fp8
  // weights may round activations to fp8.
  absl::StatusOr<std::unique_ptr<Kernels>> (*make_kernels)(Device& device, bool fp8_activations);

  // Communicators over the ranks of `bootstrap`, which all have a device of open_device; collective
  // calls. What all ranks must agree on has been decided by the caller (device_communicator.cc).
  absl::StatusOr<PeerIdentity> (*identify)(Device& device);
  absl::StatusOr<std::unique_ptr<Communicator>> (*make_nccl)(PeerGroup group, Device& device,
                                                             const NcclOptions& options);
  // The peers' memory is mapped, written and read back first: FailedPrecondition, with the pair of
  // ranks and the reason, when it cannot be trusted.
  absl::StatusOr<std::unique_ptr<Communicator>> (*make_ipc)(PeerGroup group, Device& device,
                                                            const IpcOptions& options);
};

// The members that comm/ makes; engine/kernels/cuda_module.cc adds make_kernels. Only inside the
// module.
CudaModule CudaModuleOfComm();

// Loads the module: the file $TPRUN_CUDA_MODULE if set, else libtprun_cuda.so beside the program,
// or in ../lib or in .. from there. Stays loaded. Unimplemented, in one line, when this build has
// no CUDA, the file is missing or does not load, or is of another build.
absl::StatusOr<const CudaModule*> LoadCudaModule();

}  // namespace tprun
