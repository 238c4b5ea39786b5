#include "comm/device_probe.h"

#include "base/status_macros.h"
#include "comm/cuda_module.h"

namespace tprun {

absl::StatusOr<std::unique_ptr<DeviceProbe>> OpenDeviceProbe() {
  ASSIGN_OR_RETURN(const CudaModule* module, LoadCudaModule());
  return module->open_probe();
}

}  // namespace tprun
