#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "engine/kernels/cuda/ops.h"

// Elements of the KV cache and of plain matrices.

namespace tprun::cuda {

// The row of a head that keeps a position, in a cache of `capacity` rows (see KvCacheView).
__device__ __forceinline__ int64_t CacheRowOf(int64_t position, int64_t capacity) {
  return position < capacity ? position : position % capacity;
}

// Where the rows of a sequence and KV head are, counted from what FirstOf gives.
struct RowsOfHead {
  const int32_t* pages;  // of the sequence, or none
  int64_t first, capacity, page_rows;
  __device__ __forceinline__ int64_t At(int64_t position) const {
    if (pages == nullptr) return first + CacheRowOf(position, capacity);
    return first + pages[position / kPagePositions] * page_rows + position % kPagePositions;
  }
};
__device__ __forceinline__ RowsOfHead RowsOf(const CacheArguments& cache, int64_t sequence,
                                             int kv_head) {
  const bool paged = cache.pages != nullptr;
  return {paged ? cache.pages + sequence * cache.pages_per_sequence : nullptr,
          kv_head * (paged ? kPagePositions : cache.capacity), cache.capacity,
          int64_t{cache.kv_heads} * kPagePositions};
}
// Keys or values of a sequence.
template <class Bits>
__device__ __forceinline__ Bits* FirstOf(const CacheArguments& cache, void* data,
                                         int64_t sequence) {
  char* bytes = static_cast<char*>(data);
  if (cache.pages == nullptr) bytes += sequence * cache.sequence_stride;
  return reinterpret_cast<Bits*>(bytes);
}

// Rows of elements one after another.
template <class T>
struct DenseElements {
  using Bits = T;
  __device__ static __forceinline__ const T* RowAt(const T* first, int64_t row, int head_dim) {
    return first + row * head_dim;
  }
};

struct F32Element : DenseElements<float> {
  __device__ static __forceinline__ float Load(float bits) { return bits; }
  __device__ static __forceinline__ float Store(float value) { return value; }
};

struct F16Element : DenseElements<uint16_t> {
  __device__ static __forceinline__ float Load(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
  }
  __device__ static __forceinline__ uint16_t Store(float value) {
    return __half_as_ushort(__float2half_rn(value));
  }
};

struct Bf16Element : DenseElements<uint16_t> {
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

// Rounds to nearest even and saturates, as engine/format/fp8_bits.h.
__device__ __forceinline__ uint32_t ToE4M3(float value) {
  const uint32_t sign = __float_as_uint(value) >> 24 & 0x80;
  if (value != value) return sign | 0x7f;
  const float magnitude = fminf(fabsf(value), 448.0f);
  // Steps of 2^-9 below 2^-6, of an eighth of the power of two above.
  const int exponent =
      magnitude < 0.015625f ? -6 : static_cast<int>(__float_as_uint(magnitude) >> 23) - 127;
  const float inverse_step = __uint_as_float(static_cast<uint32_t>(127 + 3 - exponent) << 23);
  const int steps = static_cast<int>(rintf(magnitude * inverse_step));
  // A carry out of the mantissa goes into the exponent by itself.
  return sign | static_cast<uint32_t>(((exponent + 6) << 3) + steps);
}

struct E4M3Element : DenseElements<uint8_t> {
  __device__ static __forceinline__ float Load(uint8_t bits) { return FromE4M3(bits); }
  __device__ static __forceinline__ uint8_t Store(float value) {
    return static_cast<uint8_t>(ToE4M3(value));
  }
};

// q8_0 as in engine/format/q8_0.cc: blocks of 32 elements, a scale in f16 and signed bytes, at
// multiples of 2 bytes.
struct Q8_0Rows {
  using Bits = uint8_t;
  static constexpr int kBlockBytes = 34;
  __device__ static __forceinline__ const uint8_t* RowAt(const uint8_t* first, int64_t row,
                                                         int head_dim) {
    return first + row * (head_dim / 32 * kBlockBytes);
  }
};

// Eight neighbouring elements, at a multiple of 16 bytes or, of single bytes, of 8.
template <class E>
__device__ __forceinline__ void LoadEight(const typename E::Bits* from, float (&to)[8]) {
  if constexpr (sizeof(typename E::Bits) == 1) {
    const uint2 bits = *reinterpret_cast<const uint2*>(from);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      to[i] = E::Load(static_cast<uint8_t>((i < 4 ? bits.x : bits.y) >> (i % 4 * 8)));
    }
  } else if constexpr (sizeof(typename E::Bits) == 4) {
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

// Elements first to first + 7 of a row of head_dim; aligned: at multiples of 8 elements, and the
// row at a multiple of 16 bytes (of single bytes, 8). Zeros beyond the end.
template <class E>
__device__ __forceinline__ void LoadOctet(const typename E::Bits* row, int first, int head_dim,
                                          bool aligned, float (&to)[8]) {
  if constexpr (std::is_same_v<E, Q8_0Rows>) {  // heads are whole blocks
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = 0;
    if (first >= head_dim) return;
    const auto* block = reinterpret_cast<const uint16_t*>(row + first / 32 * Q8_0Rows::kBlockBytes);
    const float scale = __half2float(__ushort_as_half(block[0]));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t two = block[1 + first % 32 / 2 + i];
      to[2 * i] = static_cast<float>(static_cast<int8_t>(two)) * scale;
      to[2 * i + 1] = static_cast<float>(static_cast<int8_t>(two >> 8)) * scale;
    }
  } else if (aligned && first < head_dim) {
    LoadEight<E>(row + first, to);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      to[i] = !aligned && first + i < head_dim ? E::Load(row[first + i]) : 0.0f;
    }
  }
}

}  // namespace tprun::cuda
