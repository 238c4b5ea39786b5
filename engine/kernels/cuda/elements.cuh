#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

// Elements of the KV cache and of plain matrices.

namespace tprun::cuda {

// The row of a head that keeps a position, in a cache of `capacity` rows (see KvCacheView).
__device__ __forceinline__ int64_t CacheRowOf(int64_t position, int64_t capacity) {
  return position < capacity ? position : position % capacity;
}

struct F32Element {
  using Bits = float;
  __device__ static __forceinline__ float Load(float bits) { return bits; }
  __device__ static __forceinline__ float Store(float value) { return value; }
};

struct F16Element {
  using Bits = uint16_t;
  __device__ static __forceinline__ float Load(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
  }
  __device__ static __forceinline__ uint16_t Store(float value) {
    return __half_as_ushort(__float2half_rn(value));
  }
};

struct Bf16Element {
  using Bits = uint16_t;
  __device__ static __forceinline__ float Load(uint16_t bits) {
    return __uint_as_float(uint32_t{bits} << 16);
  }
  __device__ static __forceinline__ uint16_t Store(float value) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  }
};

// FP8 E4M3FN as engine/format/fp8_bits.h has it: a bf16 whose exponent is 120 too small, but for
// NaN.
__device__ __forceinline__ float FromE4M3(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7f;
  const float scaled = __uint_as_float(magnitude << 20) * 1.329227995784916e36f;  // 2^120
  const float value = magnitude == 0x7f ? __uint_as_float(0x7fffffffu) : scaled;
  return (bits & 0x80) != 0 ? -value : value;
}

// Eight neighbouring elements at a multiple of 16 bytes.
template <class E>
__device__ __forceinline__ void LoadEight(const typename E::Bits* from, float (&to)[8]) {
  if constexpr (sizeof(typename E::Bits) == 4) {
    const float4 low = *reinterpret_cast<const float4*>(from);
    const float4 high = *reinterpret_cast<const float4*>(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
  } else {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      to[i] = E::Load(static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16)));
    }
  }
}

}  // namespace tprun::cuda
