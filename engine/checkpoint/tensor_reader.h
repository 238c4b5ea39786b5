#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

// Reads rows [row_begin, row_end) x columns [column_begin, column_end) of a tensor seen as a matrix
// [shape[0], product of the rest], and nothing else of the file but small gaps between rows. A
// tensor of one dimension is n rows of one column. `out` gets the rows' slices packed one after
// another in the stored format: format->Bytes((row_end - row_begin) * (column_end - column_begin)).
//
//   RETURN_IF_ERROR(ReadTensorSlice(checkpoint, *tensor, 0, 1024, 512, 1024, buffer.data()));
//
// Columns (of a one-dimensional tensor: rows) are multiples of the format's block. InvalidArgument
// names the range that is not inside the tensor, or the type that cannot be read. Thread-safe.
absl::Status ReadTensorSlice(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                             int64_t row_begin, int64_t row_end, int64_t column_begin,
                             int64_t column_end, void* out);

// The same of a tensor whose elements are `element_bytes` bytes each, whatever they mean: seen as a
// matrix of `columns` columns. InvalidArgument when it has not so many whole rows.
absl::Status ReadElements(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                          int64_t element_bytes, int64_t columns, int64_t row_begin,
                          int64_t row_end, int64_t column_begin, int64_t column_end, void* out);

// Host memory beside `out` that ReadTensorSlice takes for a moment, at most, for so many rows and
// columns.
int64_t SliceBufferBytes(const CheckpointTensor& tensor, int64_t rows, int64_t columns);

// The whole tensor: `out` gets tensor.bytes bytes.
absl::Status ReadTensor(const Checkpoint& checkpoint, const CheckpointTensor& tensor, void* out);

}  // namespace tprun
