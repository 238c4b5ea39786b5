#pragma once

#include <cuda_runtime_api.h>

#include "absl/status/status.h"

namespace tprun {

// The Status of a CUDA call: OK, ResourceExhausted for memory, else Internal, with the expression,
// its place and CUDA's text.
absl::Status CudaStatus(cudaError_t error, const char* expression, const char* file, int line);

#define CUDA_STATUS(expr) ::tprun::CudaStatus((expr), #expr, __FILE__, __LINE__)

#define CUDA_RETURN_IF_ERROR(expr)                                             \
  do {                                                                         \
    const cudaError_t tprun_cuda_error = (expr);                               \
    if (tprun_cuda_error != cudaSuccess) {                                     \
      return ::tprun::CudaStatus(tprun_cuda_error, #expr, __FILE__, __LINE__); \
    }                                                                          \
  } while (false)

}  // namespace tprun
