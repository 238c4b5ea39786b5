#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/device.h"

namespace tprun {

// Lets the conformance suite, which gives host memory, run over a communicator of device memory:
// every operation copies to the device, runs there, waits and copies back. `device` outlives it.
// The ranks meet (Barrier) before the first operation.
std::unique_ptr<Communicator> OnDevice(std::unique_ptr<Communicator> communicator, Device& device);

}  // namespace tprun
