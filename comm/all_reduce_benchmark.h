#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/device.h"

namespace tprun {

struct AllReduceTimings {
  double p50_s = 0;
  double p99_s = 0;
  double in_graph_s = 0;  // each of many recorded in one graph; 0: cannot be recorded
};

// Times `rounds` (after a warm-up) back-to-back f32 all-reduces in place of `bytes` bytes, rounded
// down to whole elements. All ranks call it, and all get the times that rank 0 saw.
// InvalidArgument for bytes < 0 or above 1 GiB, or rounds outside 1 to 1,000,000.
absl::StatusOr<AllReduceTimings> MeasureAllReduce(Communicator& comm, int64_t bytes, int rounds);

// The same for a communicator over `device`'s memory: each round also waits for the device, and one
// graph of up to 100 of them is timed as a whole. Every rank gets the times that it saw itself.
absl::StatusOr<AllReduceTimings> MeasureDeviceAllReduce(Communicator& comm, Device& device,
                                                        int64_t bytes, int rounds);

}  // namespace tprun
