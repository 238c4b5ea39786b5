#pragma once

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model_spec.h"
#include "engine/model/placement.h"

namespace tprun {

// The format in which ReadSourceRows gives a tensor's rows: that of the checkpoint. nullptr where
// the checkpoint does not have it.
const WeightFormat* SourceFormat(const Checkpoint& checkpoint, const TensorSpec& tensor);

// Reads the rows and columns of `shard`, packed one after another in SourceFormat, from wherever
// the checkpoint has them: a tensor of its own, rows of a fused one (in turns, where row_step is
// more than 1), one tensor per expert or one for all, transposed, or the blocks and scales of
// gpt-oss (see gpt_oss.cc). Shards of several matrices have all columns. Thread-safe.
absl::Status ReadSourceRows(const Checkpoint& checkpoint, const TensorSpec& tensor,
                            const Shard& shard, void* out);

// Host memory beside `out` that ReadSourceRows takes for a moment, at most; 0 where the checkpoint
// does not have the tensor.
int64_t SourceBufferBytes(const Checkpoint& checkpoint, const TensorSpec& tensor,
                          const Shard& shard);

}  // namespace tprun
