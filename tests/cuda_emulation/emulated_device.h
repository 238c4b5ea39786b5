#pragma once

#include <memory>

#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// A device whose kernels are emulated. Its memory is the host's, each buffer an allocation of just
// its size, so that AddressSanitizer sees every access beyond it, and not zeroed; host_accessible
// is false, as for a GPU.
std::unique_ptr<Device> MakeEmulatedDevice();

// The CUDA op set, each kernel run by the executor, each cuBLASLt product by plain loops.
std::unique_ptr<Kernels> MakeEmulatedCudaKernels(Device& device, int compute_capability = 90,
                                                 bool fp8_activations = false);

}  // namespace tprun
