#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/device_probe.h"

namespace tprun {

// The CUDA module's DeviceProbe. Errors as those of opening a device.
absl::StatusOr<std::unique_ptr<DeviceProbe>> MakeCudaDeviceProbe();

}  // namespace tprun
