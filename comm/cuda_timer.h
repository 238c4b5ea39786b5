#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/cuda_device.h"

namespace tprun {

// The least time, by the GPU's clock, of what `work` gives to the device's stream, of `rounds`
// after two that warm up.
absl::StatusOr<double> BestSeconds(CudaDevice& device, int rounds,
                                   const std::function<absl::Status()>& work);

}  // namespace tprun
