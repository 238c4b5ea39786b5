#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "comm/cuda_device.h"

namespace tprun {

// Records what `work` gives to the device's stream, makes it ready to launch and loads it up.
absl::StatusOr<std::unique_ptr<DeviceGraph>> CaptureCudaGraph(
    CudaDevice& device, const std::function<absl::Status()>& work);

}  // namespace tprun
