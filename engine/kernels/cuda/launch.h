#pragma once

#include <cuda_runtime.h>

#include <utility>

namespace tprun::cuda {

// Where kernels run and what they may ask of it.
struct Stream {
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  int compute_capability = 0;  // 90 for 9.0
};

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
};

// The one way to launch: a kernel may start while the one before it drains, so it must call
// WaitForPreviousKernel (intrinsics.cuh).
template <class... Parameters, class... Arguments>
cudaError_t Launch(const Stream& stream, const Grid& grid, void (*kernel)(Parameters...),
                   Arguments&&... arguments) {
  if (grid.shared_bytes > (48 << 10)) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = stream.stream;
  config.attrs = &early;
  config.numAttrs = stream.compute_capability >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace tprun::cuda
