#pragma once

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "comm/device.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/memory_layout.h"

namespace tprun {

// Fills the weight regions of `layout`, whose allocation starts at `base` on `device`: from the
// byte ranges of `checkpoint`, or at random when it has no tensors. `progress` may come from any
// thread of the pool, one call at a time.
absl::Status LoadShards(const Checkpoint& checkpoint, const ModelSpec& spec,
                        const MemoryLayout& layout, char* base, Device& device, ThreadPool& pool,
                        const LoadProgress& progress);

}  // namespace tprun
