#pragma once

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/placement.h"

namespace tprun {

// Reads a shard of a tensor and nothing else of the checkpoint: rows packed one after another in
// the tensor's stored format (see StoredFormat), ShardBytes(tensor, shard) bytes. Where the
// checkpoint holds another format the values go through f32, a piece at a time; blocks are then
// encoded from whole blocks of the tensor, so that the bytes do not depend on how it is cut.
//
// Where in the checkpoint the rows lie is told in source_rows.h.
// InvalidArgument: the tensor is missing, or has no decoder or encoder. Thread-safe.
absl::Status ReadShard(const Checkpoint& checkpoint, const TensorSpec& tensor, const Shard& shard,
                       void* out);

// Host memory beside `out` that ReadShard takes for a moment, at most.
int64_t ShardBufferBytes(const Checkpoint& checkpoint, const TensorSpec& tensor,
                         const Shard& shard);

}  // namespace tprun
