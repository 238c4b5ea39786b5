#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/dtype.h"

namespace tprun {

// Checks of arguments and texts of errors that are the same in every back end. All checks return
// InvalidArgument and name the operation.

absl::Status CheckBuffer(absl::string_view operation, const void* data, int64_t count);
absl::Status CheckRank(absl::string_view operation, int rank, int size);
// One count per rank, none negative, the sum within int64; `send` and `receive` where needed.
absl::Status CheckAllGather(const void* send, const void* receive, absl::Span<const int64_t> counts,
                            int rank, int size, DType dtype);
// `ranks` are different ranks of a group of `size`, and `rank` is one of them.
absl::Status CheckSplit(absl::Span<const int> ranks, int rank, int size);

// DeadlineExceeded of world rank `rank` that waited in `operation` over the world ranks `group`
// (for a message: the two ranks that it goes between).
absl::Status DeadlineError(absl::string_view operation, int rank, absl::Span<const int> group,
                           absl::Duration timeout);
// Aborted: what every waiting rank gets after rank `rank` gave up for `reason`.
absl::Status AbortedByRank(int rank, absl::string_view reason);
// True for a status made by AbortedByRank, which already names the rank that failed.
bool IsAbortedByRank(const absl::Status& status);
// The error with "rank R: " in front, unless its message begins with the name of a rank already.
absl::Status NameRank(int rank, const absl::Status& status);

}  // namespace tprun
