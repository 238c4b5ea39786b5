#include "comm/cuda_error.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tprun {

absl::Status CudaStatus(cudaError_t error, const char* expression, const char* file, int line) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // an error that is not sticky is told once
  absl::string_view name = file;
  if (const auto slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  const std::string message =
      absl::StrCat(expression, " at ", name, ":", line, ": ", cudaGetErrorString(error), " (",
                   cudaGetErrorName(error), ")");
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

}  // namespace tprun
