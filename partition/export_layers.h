#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "partition/plan.h"

namespace tprun {

// What the exports share.

// Ranks of a block that hold some of it.
std::vector<int> HoldingRanks(const Placement& placement);

// The one rank of a block, or -1 if several hold some of it.
int OnlyRank(const Placement& placement);

// "cuda:1" -> 1; -1 for the CPU. InvalidArgument for a device of another host than the first's:
// `program` knows one host only.
absl::StatusOr<int> GpuNumber(const Plan& plan, int rank, absl::string_view program);

// "node1" of "node1/cuda:0", "" where the device names no host.
std::string HostOf(const std::string& device);

}  // namespace tprun
