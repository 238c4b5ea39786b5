#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/file.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

// No header describes more tensors than this; the largest published models have about 100,000.
inline constexpr int64_t kMaxTensors = int64_t{1} << 20;

// Product of the dimensions; OutOfRange when it does not fit.
absl::StatusOr<int64_t> CountElements(absl::Span<const int64_t> shape);

// a * b for a, b >= 0; OutOfRange when it does not fit.
absl::StatusOr<int64_t> CheckedMultiply(int64_t a, int64_t b);

// Checks that the tensors of one file lie inside it and that no two of them overlap.
absl::Status CheckRanges(const RandomAccessFile& file, absl::Span<const CheckpointTensor> tensors);

}  // namespace tprun
