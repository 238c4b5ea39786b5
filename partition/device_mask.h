#pragma once

#include <cstdint>

namespace tprun {

// A set of devices by number, as the layout search has them.
using DeviceMask = uint64_t;

constexpr DeviceMask DeviceBit(int device) { return DeviceMask{1} << device; }
inline int CountDevices(DeviceMask mask) { return __builtin_popcountll(mask); }

}  // namespace tprun
