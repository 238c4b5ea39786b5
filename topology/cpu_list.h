#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// A set of CPUs (or NUMA nodes) as the kernel writes it: "0-19,40-59", "4,6,9"; "" is empty. The
// numbers must ascend. InvalidArgument says what is wrong; numbers of 65536 and more are.
absl::StatusOr<std::vector<int>> ParseCpuList(absl::string_view list);

// The inverse: runs as ranges.
std::string FormatCpuList(const std::vector<int>& cpus);

// The set of a mask of comma separated 32-bit hexadecimal words, the most significant first:
// "5555,55555555" of NCCL, "0x000000ff,,0x1" of hwloc, where an empty word is 0. InvalidArgument
// for a word that is none, or over 1024 words.
absl::StatusOr<std::vector<int>> ParseCpuMask(absl::string_view mask);

}  // namespace tprun
