#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/device.h"

namespace tprun {

// Exchanges the memory of devices through host memory and `bootstrap`: copy to the host, exchange,
// copy back. For a device whose memory the host reaches, and for a single rank, without the copies.
// Waits for the device's stream in every call (but for a single rank), so it cannot be captured.
// Both are owned by the caller and outlive the result.
std::unique_ptr<Communicator> MakeHostCommunicator(Communicator& bootstrap, Device& device);

}  // namespace tprun
