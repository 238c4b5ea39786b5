#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace tprun {

// Whole shares of `units` for `count` members that make the slowest of them fastest. seconds(i,
// share) must not fall with the share.
std::vector<int64_t> FastestShares(int64_t units, int count,
                                   const std::function<double(int, int64_t)>& seconds);

}  // namespace tprun
