#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace tprun {

// What the control groups (version 1 or 2) of this process allow it. A container's limits are
// usually there and nowhere else.
struct CgroupLimits {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  int64_t memory_limit_bytes = kNone;
  int64_t memory_available_bytes = kNone;  // below the limit now; page cache counts as free
  double cpus = 0;                         // CPU time per second, 0: unlimited
};

// `root` is put in front of /proc and /sys (tests have their own).
CgroupLimits ReadCgroupLimits(const std::string& root = "");

}  // namespace tprun
