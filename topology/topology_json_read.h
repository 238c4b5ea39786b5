#pragma once

#include <cstdint>

namespace tprun {

// The form of TopologyJson. Version 1 had fewer members; it is still read.
inline constexpr int64_t kTopologyJsonVersion = 2;

}  // namespace tprun
