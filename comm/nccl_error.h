#pragma once

#include <nccl.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tprun {

// A call of NCCL that failed.
struct NcclFailure {
  absl::string_view operation;  // "starting"
  int rank = 0;                 // of the world, as all of `group`
  absl::Span<const int> group;
  absl::string_view device;  // CudaDevice::description()
  ncclResult_t result = ncclInternalError;
  absl::string_view text;    // ncclGetErrorString
  absl::string_view detail;  // ncclGetLastError; may be empty
};

// Internal: who failed on which GPU in which group, with what, and what to do.
absl::Status NcclError(const NcclFailure& failure);

}  // namespace tprun
