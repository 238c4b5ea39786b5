#pragma once

// See cuda_runtime.h beside this.

#include <cstddef>

#include "tests/cuda_emulation/executor.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
};
const char* cudaGetErrorString(cudaError_t error);  // of a failed launch: what the executor found
const char* cudaGetErrorName(cudaError_t error);
// Errors come back from the launch itself; none is kept.
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

using cudaStream_t = struct CudaEmulationStream*;  // all work is done when the call returns

struct dim3 : cuda_emulation::Dim3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : Dim3{x, y, z} {}
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace cuda_emulation {
// Checks what the driver would, then runs the grid.
cudaError_t LaunchBody(const cudaLaunchConfig_t& config, const void* kernel, ThreadBody body,
                       void* argument);
// Whether the last launch let its kernel start before the one before it had ended.
bool LastLaunchStartedEarly();
cudaError_t SetFunctionAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
}  // namespace cuda_emulation
