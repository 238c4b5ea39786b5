#pragma once

#include <memory>

#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// Kernels of a device that take the host's memory, as the tests have it: every op copies its
// arguments to the device, into buffers of just their size, runs there and copies what it may have
// written back. Weights are arranged on the way.
std::unique_ptr<Kernels> MakeHostMemoryKernels(std::unique_ptr<Device> device,
                                               std::unique_ptr<Kernels> kernels);

}  // namespace tprun
