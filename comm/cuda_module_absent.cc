// Stands in for the CUDA module in a build without CUDA.
#include "comm/cuda_module.h"

namespace tprun {

absl::StatusOr<const CudaModule*> LoadCudaModule() {
  return absl::UnimplementedError(
      "this tprun was built without CUDA: install the CUDA toolkit (12.0 or newer, with nvcc) and "
      "build again");
}

}  // namespace tprun
