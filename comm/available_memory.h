#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace tprun {

// Bytes that this process can still allocate without swapping or being killed: the least of
// MemAvailable and what the memory cgroups (v1 or v2) of the process leave. Files in the page cache
// count as available. `root` is put in front of /proc and /sys (for tests).
absl::StatusOr<int64_t> AvailableMemory(const std::string& root = "");

}  // namespace tprun
