#pragma once

#include <memory>

#include "comm/device.h"

namespace tprun {

// A device whose memory the host cannot touch, like a GPU's: the addresses that it gives are not
// readable, so code that does not copy as it should ends at once.
std::unique_ptr<Device> MakeFakeDevice();

}  // namespace tprun
