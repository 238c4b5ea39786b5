#pragma once

#include <functional>

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "comm/device.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/memory_layout.h"

namespace tprun {

// Called for rows [begin, end) of a region of matrices, once they are read, while others still are:
// by several threads at once. Pieces of a matrix of `matrix_rows` rows begin and end at multiples
// of `step` or at its ends.
struct PieceArranger {
  int64_t step = 1;
  std::function<int64_t(const Region&)> matrix_rows;
  std::function<absl::Status(const Region&, int64_t begin, int64_t end)> arrange;
};

// Fills the weight regions of `layout`, whose allocation starts at `base` on `device`: from the
// byte ranges of `checkpoint`, or at random when it has no tensors. `progress` may come from any
// thread of the pool, one call at a time. At most `threads` of the pool read, 0: all.
// `arranger`: of device memory that the host reaches.
absl::Status LoadShards(const Checkpoint& checkpoint, const ModelSpec& spec,
                        const MemoryLayout& layout, char* base, Device& device, ThreadPool& pool,
                        const LoadProgress& progress, int threads = 0,
                        const PieceArranger* arranger = nullptr);

// Host memory that LoadShards takes for a moment with so many threads, and has given back when it
// returns: what reading and then arranging takes of each thread, and where the host does not reach
// the device's memory
// (`staged`) the two pinned buffers of each that Device::MakeUploader gives. The page cache is the
// system's to give back and not counted.
int64_t LoadBufferBytes(const Checkpoint& checkpoint, const ModelSpec& spec,
                        const MemoryLayout& layout, int threads, bool staged);

}  // namespace tprun
