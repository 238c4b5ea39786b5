#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/device.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/kernels.h"

namespace tprun::cuda {

// MakeCudaKernels for the memory of any device and a stream that works on it: how tests make the
// kernels without a GPU.
absl::StatusOr<std::unique_ptr<Kernels>> MakeKernels(Device& device, const Stream& stream,
                                                     bool fp8_activations);

}  // namespace tprun::cuda
