#include "engine/kernels/make_kernels.h"

#include "base/status_macros.h"
#include "comm/cuda_module.h"

namespace tprun {

absl::StatusOr<std::unique_ptr<Kernels>> MakeKernelsFor(Device& device, ThreadPool* pool,
                                                        Activations activations) {
  if (device.host_accessible()) return MakeCpuKernels(pool, activations);
  ASSIGN_OR_RETURN(const CudaModule* module, LoadCudaModule());
  return module->make_kernels(device);
}

}  // namespace tprun
