#pragma once

// Stands in for CUDA's header of this name where kernel sources are compiled by the host's compiler
// and run by tests/cuda_emulation/executor.h: as much of CUDA as tprun's kernels use.

#include <math.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"
#include "tests/cuda_emulation/executor.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// One block runs at a time. The executor fills the sections before each block; there is one for
// each depth of inclusion, since what headers define has other flags than what a source does.
#define TPRUN_SHARED_SECTION(depth) "tprun_shared_" #depth
#define TPRUN_SHARED_AT(depth) static __attribute__((section(TPRUN_SHARED_SECTION(depth))))
#define __shared__ TPRUN_SHARED_AT(__INCLUDE_LEVEL__)

inline const cuda_emulation::Dim3& threadIdx = cuda_emulation::g_thread_index;
inline const cuda_emulation::Dim3& blockIdx = cuda_emulation::g_block_index;
inline const cuda_emulation::Dim3& blockDim = cuda_emulation::g_block_dim;
inline const cuda_emulation::Dim3& gridDim = cuda_emulation::g_grid_dim;

// Vectors, aligned as on the GPU: the undefined behaviour sanitizer finds loads that would fault.
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using std::max;
using std::min;

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

namespace cuda_emulation {
template <class To, class From>
To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
}  // namespace cuda_emulation

inline float __uint_as_float(unsigned x) { return cuda_emulation::BitCast<float>(x); }
inline unsigned __float_as_uint(float x) { return cuda_emulation::BitCast<unsigned>(x); }
inline float __int_as_float(int x) { return cuda_emulation::BitCast<float>(x); }

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}

inline void __syncthreads() { cuda_emulation::SyncBlock(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_emulation::ExchangeInWarp("__syncwarp", mask, "", 1);
}
inline void __threadfence() {}

namespace cuda_emulation {
// The value of lane `from(lane)`, all lanes calling.
template <class T>
T Shuffle(const char* name, unsigned mask, T value, int source) {
  const unsigned char* slots = ExchangeInWarp(name, mask, &value, sizeof(value));
  T result;
  std::memcpy(&result, slots + source * kMostExchanged, sizeof(result));
  return result;
}
}  // namespace cuda_emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = cuda_emulation::LaneOfThread();
  return cuda_emulation::Shuffle("__shfl_sync", mask, value,
                                 (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = cuda_emulation::LaneOfThread();
  const int other = lane ^ bits;
  return cuda_emulation::Shuffle("__shfl_xor_sync", mask, value,
                                 (other & ~(width - 1)) > lane ? lane : other);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = cuda_emulation::LaneOfThread();
  const bool inside = (lane & (width - 1)) + static_cast<int>(delta) < width;
  return cuda_emulation::Shuffle("__shfl_down_sync", mask, value,
                                 inside ? lane + static_cast<int>(delta) : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned char flag = predicate != 0;
  const unsigned char* slots = cuda_emulation::ExchangeInWarp("__ballot_sync", mask, &flag, 1);
  unsigned votes = 0;
  for (int i = 0; i < cuda_emulation::kWarpSize; ++i) {
    votes |= unsigned{slots[i * cuda_emulation::kMostExchanged]} << i;
  }
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == 0xffffffffu;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }

// Threads leave the processor at barriers only, so these are plain code.
template <class T>
T atomicAdd(T* to, T value) {
  const T old = *to;
  *to = old + value;
  return old;
}
template <class T>
T atomicOr(T* to, T value) {
  const T old = *to;
  *to = old | value;
  return old;
}
template <class T>
T atomicMax(T* to, T value) {
  const T old = *to;
  *to = std::max(old, value);
  return old;
}
template <class T>
T atomicCAS(T* to, T expected, T value) {
  const T old = *to;
  if (old == expected) *to = value;
  return old;
}

namespace cuda_emulation {
template <class... Parameters>
cudaError_t Launch(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                   std::tuple<Parameters...> arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, std::move(arguments)};
  return LaunchBody(
      *config, reinterpret_cast<const void*>(kernel),
      [](void* c) {
        Call& one = *static_cast<Call*>(c);
        std::apply(one.kernel, one.arguments);
      },
      &call);
}
}  // namespace cuda_emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return cuda_emulation::Launch(config, kernel,
                                std::tuple<Parameters...>(std::forward<Arguments>(arguments)...));
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return cuda_emulation::SetFunctionAttribute(reinterpret_cast<const void*>(kernel), attribute,
                                              value);
}
