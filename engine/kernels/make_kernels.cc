#include "engine/kernels/make_kernels.h"

#include "base/status_macros.h"
#include "comm/cuda_module.h"

namespace tprun {

absl::StatusOr<std::unique_ptr<Kernels>> MakeKernelsFor(Device& device, ThreadPool* pool,
                                                        Activations activations,
                                                        bool declared_fp8) {
  if (device.host_accessible()) return MakeCpuKernels(pool, activations);
  ASSIGN_OR_RETURN(const CudaModule* module, LoadCudaModule());
  return module->make_kernels(device, Fp8Activations(activations, declared_fp8));
}

}  // namespace tprun
