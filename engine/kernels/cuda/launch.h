#pragma once

#include <cuda_runtime.h>

#include <utility>

namespace tprun::cuda {

// Where kernels run and what they may ask of it.
struct Stream {
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  int compute_capability = 0;  // 90 for 9.0
  bool starts_early = false;   // see MayStartEarly
};

// Whether a kernel may be launched before the one before it has ended (programmatic dependent
// launch). The GPU must be able to, and the code must wait: it has that instruction only if it was
// compiled for 9.0, while a GPU may also run what the driver makes of older PTX. Graphs record such
// launches from CUDA 12.3 on (CUDA C++ Programming Guide, "Edge Data"); the version is the older
// of the runtime's and the driver's.
constexpr bool MayStartEarly(int compute_capability, int code_capability, int cuda_version) {
  return compute_capability >= 90 && code_capability >= 90 && cuda_version >= 12030;
}

// The most dynamic shared memory that a kernel gets unasked: 48 KiB less its static memory, which
// is at most 1 KiB where there is dynamic memory too (tools/check_cuda_build.sh).
constexpr size_t kUnaskedSharedBytes = 47 << 10;

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
  if (grid.shared_bytes > kUnaskedSharedBytes) {
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
  config.numAttrs = stream.starts_early ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace tprun::cuda
