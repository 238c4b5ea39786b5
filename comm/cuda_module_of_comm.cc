// This folder's part of the table that the CUDA module gives to the program.
#include "comm/cuda_device.h"
#include "comm/cuda_device_probe.h"
#include "comm/cuda_module.h"
#include "comm/ipc_communicator.h"
#include "comm/nccl_communicator.h"
#include "comm/peer_memory.h"

namespace tprun {

CudaModule CudaModuleOfComm() {
  CudaModule module = {};
  module.interface_digest = TPRUN_CUDA_INTERFACE;
  module.description = "CUDA for compute capability " TPRUN_CUDA_ARCHITECTURES;
  module.open_device = CudaDevice::Open;
  module.open_probe = MakeCudaDeviceProbe;
  module.identify = IdentifyPeer;
  module.make_nccl = MakeNcclCommunicator;
  module.make_ipc = MakeIpcCommunicator;
  return module;
}

}  // namespace tprun
