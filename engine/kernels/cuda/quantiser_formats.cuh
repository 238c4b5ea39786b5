#pragma once

#include "engine/kernels/cuda/block_formats.cuh"
#include "engine/kernels/cuda/elements.cuh"

// FP8 (engine/format/fp8.cc) and integers in groups (engine/format/int_groups.h), as they lie in
// memory.

namespace tprun::cuda {

__device__ __forceinline__ float FloatAt(const uint8_t* bytes) {
  return __uint_as_float(bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 |
                         uint32_t{bytes[3]} << 24);
}

template <int kCount>
struct Fp8InFile {
  static constexpr int kElements = kCount, kBytes = 4 + kCount;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return FromE4M3(block[4 + i]) * FloatAt(block);
  }
};

struct F32Scale {
  static constexpr int kBytes = 4;
  __device__ static __forceinline__ float At(const uint8_t* bytes) { return FloatAt(bytes); }
};
template <class E>
struct HalfScale {
  static constexpr int kBytes = 2;
  __device__ static __forceinline__ float At(const uint8_t* bytes) {
    return E::Load(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
  }
};
using F16Scale = HalfScale<F16Element>;
using Bf16Scale = HalfScale<Bf16Element>;

template <int kBits, int kCount, class Scale>
struct IntGroup {
  static constexpr int kElements = kCount, kQuants = Scale::kBytes + 1;
  static constexpr int kBytes = kQuants + kCount * kBits / 8;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const uint8_t* quants = block + kQuants;
    const int q = kBits == 8 ? quants[i] : (quants[i / 2] >> 4 * (i % 2)) & 15;
    return Scale::At(block) * static_cast<float>(q - block[Scale::kBytes]);
  }
};

}  // namespace tprun::cuda
