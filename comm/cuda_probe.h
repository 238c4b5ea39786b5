#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tprun {

// Whether the module has machine code (or PTX) for the current GPU: cudaSuccess, else the error
// that every launch would meet. Sets the compute capability that this code was compiled for, 90 for
// 9.0: what __CUDA_ARCH__ was, also where the driver compiles PTX of an older one.
cudaError_t FindMachineCode(int* code_capability);

// Reads `bytes` bytes (a multiple of 16) once. `sink` is one word that is never written, but for
// the compiler might be.
cudaError_t LaunchRead(const void* memory, int64_t bytes, int multiprocessors, uint32_t* sink,
                       cudaStream_t stream);

// One side of a game in which two GPUs answer each other `rounds` times: stores its count in the
// other's memory, and waits for the other's in its own. `first` serves. Gives up after timeout_ns
// and then sets *failed, which lies in its own memory.
cudaError_t LaunchPingPong(uint64_t* own, uint64_t* other, int rounds, bool first,
                           uint64_t timeout_ns, uint32_t* failed, cudaStream_t stream);

}  // namespace tprun
