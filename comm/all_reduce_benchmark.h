#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "comm/communicator.h"

namespace tprun {

struct AllReduceTimings {
  double p50_s = 0;
  double p99_s = 0;
};

// Times `rounds` (after a warm-up) back-to-back f32 all-reduces in place of `bytes` bytes, rounded
// down to whole elements. All ranks call it, and all get the times that rank 0 saw.
// InvalidArgument for bytes < 0 or above 1 GiB, or rounds outside 1 to 1,000,000.
absl::StatusOr<AllReduceTimings> MeasureAllReduce(Communicator& comm, int64_t bytes, int rounds);

}  // namespace tprun
