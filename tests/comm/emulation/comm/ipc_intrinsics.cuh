#pragma once

// Stands in for comm/ipc_intrinsics.cuh where tests run the kernels of the ipc back end on the
// host: a block is a thread of the system of one GPU thread; or, with an EmulatedBlock, some.

#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>

#include "base/dtype.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

namespace tprun {

struct EmulatedIndex {
  unsigned x = 0;
};
extern thread_local EmulatedIndex blockIdx;
inline thread_local EmulatedIndex threadIdx = {0};
inline thread_local EmulatedIndex blockDim = {1};
inline const EmulatedIndex gridDim = {1};

constexpr int kMostIpcThreads = 8;

// What the threads of a block share.
struct EmulatedBlock {
  explicit EmulatedBlock(int threads) : barrier(threads) {}
  std::barrier<> barrier;
  std::atomic<bool> all{true};
  float floats[kMostIpcThreads] = {};
};
inline thread_local EmulatedBlock* emulated_block = nullptr;

inline float* FloatsOfBlock() {
  static thread_local float alone[1];
  return emulated_block == nullptr ? alone : emulated_block->floats;
}
inline void __syncthreads() {
  if (emulated_block != nullptr) emulated_block->barrier.arrive_and_wait();
}
inline int __syncthreads_and(int value) {
  if (emulated_block == nullptr) return value;
  if (value == 0) emulated_block->all = false;
  __syncthreads();
  const bool all = emulated_block->all;
  __syncthreads();
  emulated_block->all = true;
  __syncthreads();
  return all ? 1 : 0;
}
inline unsigned atomicAdd(unsigned* p, unsigned value) {
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline void StoreRelease(uint64_t* p, uint64_t value) {
  __atomic_store_n(p, value, __ATOMIC_RELEASE);
}
inline uint64_t LoadAcquire(const uint64_t* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
inline uint32_t LoadFresh(const uint32_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
inline void StoreFresh(uint32_t* p, uint32_t value) {
  __atomic_store_n(p, value, __ATOMIC_RELAXED);
}
inline uint64_t Nanoseconds() {
  std::this_thread::yield();  // whoever asks for the time waits for another thread
  return std::chrono::steady_clock::now().time_since_epoch().count();
}
inline float HalfToFloat(uint16_t bits) { return ToFloat(Float16{bits}); }
inline uint16_t FloatToHalf(float value) { return ToFloat16(value).bits; }

}  // namespace tprun
