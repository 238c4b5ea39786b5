#pragma once

#include <cuda_runtime.h>

namespace tprun::cuda {

// Shared memory as kernels' headers have it, in functions that several sources may have.
__device__ __forceinline__ int* SharedOfHeader() {
  __shared__ int words[2];
  return words;
}

}  // namespace tprun::cuda
