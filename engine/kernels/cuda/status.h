#pragma once

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tprun::cuda {

// Internal with CUDA's text when a launch or copy was refused.
inline absl::Status LaunchStatus(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();  // else the next launch reports this one's error
  return absl::InternalError(
      absl::StrCat(cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

}  // namespace tprun::cuda
