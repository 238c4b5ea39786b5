#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "engine/runtime/memory_layout.h"
#include "partition/memory_model.h"
#include "partition/plan.h"

namespace tprun {

// Host memory that loading a rank's weights takes for a moment with so many threads; `staged`: on
// their way to a device whose memory the host does not reach. LoadBufferBytes of the engine, which
// knows the checkpoint.
using LoadBuffers = std::function<int64_t(const ModelSpec& spec, const MemoryLayout& layout,
                                          int threads, bool staged)>;

// Threads of each rank when nothing else is said: those of its host over the ranks there.
int ThreadsOf(const Topology& topology, const Plan& plan, int rank);

// Fills in RankPlan::load_bytes and load_threads and Plan::host_shortage; `threads` of each rank,
// 0: as ThreadsOf says. Where a host has no room for the buffers of all threads, fewer of its
// ranks' read: as many as fit, at least one. Placements, overheads and available memory are there
// already.
absl::Status DescribeLoading(const Topology& topology, const ModelSpec& spec,
                             const LoadBuffers& buffers, int threads, const MemoryLimits& limits,
                             Plan& plan);

// By device, how many bytes less a rank may use there for a plan like this one, which
// DescribeLoading has seen, to load. Empty where it loads, and where something else is missing too.
std::map<std::string, int64_t> LessToLoad(const Topology& topology, const MemoryLimits& limits,
                                          const Plan& plan);

}  // namespace tprun
