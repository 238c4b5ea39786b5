#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "engine/kernels/cuda/k_formats.cuh"
#include "engine/kernels/cuda/packed_formats.cuh"

// Block formats that are read where they lie, as in the checkpoint: the value of element i of a
// block, with the roundings of engine/format/<name>.cc, which says what the bytes mean. Correct, at
// a fraction of the memory's speed; formats.cuh has those that are read at all of it.

namespace tprun::cuda {

// Eight neighbouring elements of a row.
template <class B>
struct BlockReader {
  static constexpr int kElements = 8;
  __device__ static __forceinline__ void Read(const Matrix& w, int64_t row, int64_t unit,
                                              float (&values)[kElements]) {
    constexpr int kUnits = B::kElements / kElements;
    const int64_t block = row * (w.columns / B::kElements) + unit / kUnits;
    const uint8_t* at = static_cast<const uint8_t*>(w.data) + block * B::kBytes;
    const int first = static_cast<int>(unit % kUnits) * kElements;
#pragma unroll
    for (int i = 0; i < kElements; ++i) values[i] = B::Value(at, first + i);
  }
};

__device__ __forceinline__ float HalfAt(const uint8_t* bytes) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bytes[0] | bytes[1] << 8)));
}

__device__ __forceinline__ int FiveBits(const uint8_t* packed, int i) {
  return NibbleOf32(packed + 4, i) | ((packed[i / 8] >> i % 8) & 1) << 4;
}

// Not fused: as on the CPU.
__device__ __forceinline__ float ScaledWithOffset(float scale, int q, float offset) {
  return __fadd_rn(__fmul_rn(scale, static_cast<float>(q)), offset);
}

// The arranged formats, as in the checkpoint.
struct Q8_0InFile {
  static constexpr int kElements = 32, kBytes = 34;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return static_cast<float>(static_cast<int8_t>(block[2 + i])) * HalfAt(block);
  }
};

struct Q4_0InFile {
  static constexpr int kElements = 32, kBytes = 18;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return static_cast<float>(NibbleOf32(block + 2, i) - 8) * HalfAt(block);
  }
};

__device__ __forceinline__ uint32_t WordAt(const uint8_t* bytes) {
  return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

// q4_k and q5_k.
template <class F>
struct KInFile {
  static constexpr int kElements = kSuperBlock, kBytes = F::kBytes;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    typename F::Chunk c;
    c.scales = make_uint4(WordAt(block), WordAt(block + 4), WordAt(block + 8), WordAt(block + 12));
    c.half = i / 128;
    const int step = i % 128 / kStepColumns;
    return ScaledWithOffset(F::Scale(c, step), F::QuantOf(block, i), -F::Min(c, step));
  }
};

struct Q6_KInFile {
  static constexpr int kElements = kSuperBlock, kBytes = Q6_K::kBytes;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const auto scale = static_cast<int8_t>(Q6_K::ScalesOf(block)[i / 16]);
    return HalfAt(Q6_K::TailOf(block)) * static_cast<float>(scale) *
           static_cast<float>(Q6_K::QuantOf(block, i) - 32);
  }
};

struct Q4_1 {
  static constexpr int kElements = 32, kBytes = 20;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return ScaledWithOffset(HalfAt(block), NibbleOf32(block + 4, i), HalfAt(block + 2));
  }
};

struct Q5_0 {
  static constexpr int kElements = 32, kBytes = 22;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return static_cast<float>(FiveBits(block + 2, i) - 16) * HalfAt(block);
  }
};

struct Q5_1 {
  static constexpr int kElements = 32, kBytes = 24;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return ScaledWithOffset(HalfAt(block), FiveBits(block + 4, i), HalfAt(block + 2));
  }
};

struct Q2_K {
  static constexpr int kElements = 256, kBytes = 84;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int scales = block[i / 16];
    const int q = (block[16 + 32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32)) & 3;
    const float min = HalfAt(block + 82) * static_cast<float>(scales >> 4);
    return ScaledWithOffset(HalfAt(block + 80) * static_cast<float>(scales & 15), q, -min);
  }
};

struct Q3_K {
  static constexpr int kElements = 256, kBytes = 110;
  __device__ static __forceinline__ int Scale(const uint8_t* scales, int group) {
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    return (low | ((scales[8 + group % 4] >> 2 * (group / 4)) & 3) << 4) - 32;
  }
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int low = (block[32 + 32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32)) & 3;
    const int high = (block[i % 32] >> i / 32) & 1;
    const float scale = HalfAt(block + 108) * static_cast<float>(Scale(block + 96, i / 16));
    return scale * static_cast<float>(low - (high != 0 ? 0 : 4));
  }
};

// The 16 levels of iq4_nl and iq4_xs, less than 128 in magnitude, as bytes of four words: an array
// in memory would be read once per lane.
__device__ __forceinline__ float Iq4Level(int nibble) {
  const uint32_t word = nibble < 8 ? (nibble < 4 ? 0xbfad9881u : 0xf6eaddcfu)
                                   : (nibble < 12 ? 0x26190d01u : 0x71594535u);
  return static_cast<float>(static_cast<int8_t>(word >> (nibble % 4 * 8)));
}

struct Iq4Nl {
  static constexpr int kElements = 32, kBytes = 18;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return HalfAt(block) * Iq4Level(NibbleOf32(block + 2, i));
  }
};

struct Iq4Xs {
  static constexpr int kElements = 256, kBytes = 136;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int group = i / 32;
    const int low = (block[4 + group / 2] >> 4 * (group % 2)) & 15;
    const int high = (block[2 + group / 4] >> 2 * (group % 4)) & 3;
    const float scale = HalfAt(block) * static_cast<float>((low | high << 4) - 32);
    return scale * Iq4Level(NibbleOf32(block + 8 + 16 * group, i % 32));
  }
};

struct Mxfp4InFile {
  static constexpr int kElements = 32, kBytes = 17;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    return E8M0(block[0]) * E2M1(NibbleOf32(block + 1, i));
  }
};

}  // namespace tprun::cuda
