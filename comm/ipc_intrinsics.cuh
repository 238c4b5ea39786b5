#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

// What the kernels of the ipc back end need of the GPU that CUDA C++ has no plain words for. Tests
// run the kernels on the host with a stand-in for this file (tests/comm/emulation).

namespace tprun {

// Release and acquire among all GPUs and the host (PTX ISA, "Memory Consistency Model"). A release
// is cumulative: it also passes on what the block's other threads wrote before a barrier that the
// caller has passed since.
__device__ __forceinline__ void StoreRelease(uint64_t* p, uint64_t value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(p), "l"(value) : "memory");
}

__device__ __forceinline__ uint64_t LoadAcquire(const uint64_t* p) {
  uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(p) : "memory");
  return value;
}

// A word that the host or another block changes; without order.
__device__ __forceinline__ uint32_t LoadFresh(const uint32_t* p) {
  return *reinterpret_cast<const volatile uint32_t*>(p);
}

__device__ __forceinline__ void StoreFresh(uint32_t* p, uint32_t value) {
  *reinterpret_cast<volatile uint32_t*>(p) = value;
}

__device__ __forceinline__ uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

// A float of each thread of a block, in memory that they share.
constexpr int kMostIpcThreads = 512;
__device__ __forceinline__ float* FloatsOfBlock() {
  __shared__ float floats[kMostIpcThreads];
  return floats;
}

__device__ __forceinline__ float HalfToFloat(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

__device__ __forceinline__ uint16_t FloatToHalf(float value) {
  return __half_as_ushort(__float2half_rn(value));
}

}  // namespace tprun
