#pragma once

#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/formats.cuh"

// Floats of 8 and 4 bits and integers in groups, arranged (formats.cuh).

namespace tprun::cuda {

// 2^(bits - 127).
__device__ __forceinline__ float E8M0(uint32_t bits) {
  return __uint_as_float(bits == 0 ? 0x00400000u : bits << 23);
}

// A sign, two bits of exponent and one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
__device__ __forceinline__ float E2M1(int nibble) {
  const int twice = (0xc8643210u >> (nibble % 8 * 4)) & 15;
  return 0.5f * static_cast<float>(nibble < 8 ? twice : -twice);
}

// Two blocks make a chunk: of a whole number of those are the rows of gpt-oss (2880 columns). Lane
// q has 4 bytes of each, as in q4_0.
struct Mxfp4 : BlockRow<16, kBlock, 1> {
  static constexpr int kLaneBytes = 4;
  static constexpr int kChunkColumns = 64;
  static constexpr int kChunksAhead = 3;
  static constexpr int kTerms = 1;
  static constexpr bool kScaled = true;
  struct Chunk {
    uint2 bits;
    uint32_t scales;  // a byte each
  };

  __device__ explicit Mxfp4(const Row& row) : Row(row) {}
  __device__ static Mxfp4 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Mxfp4(Row::Find(data, rows, columns, row));
  }
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int columns) const {
    Chunk c = {make_uint2(0, 0), 0};
    const int block = chunk * 2, blocks = columns / kBlock;
    const uint8_t* at = quants + block * kQuantBytes;
    if (kWhole || block + 1 < blocks) {
      c.bits = LoadStreaming(reinterpret_cast<const uint2*>(at + q * 8));
      c.scales = Row::Scale(block)[0] | uint32_t{Row::Scale(block)[1]} << 8;
    } else if (block < blocks) {
      c.bits.x = LoadStreaming(reinterpret_cast<const uint32_t*>(at + q * 4));
      c.scales = Row::Scale(block)[0];
    }
    return c;
  }
  // The bits of a value are those of a bf16 whose exponent is 126 too small: exactly, denormal
  // numbers too.
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t pair = ((step == 0 ? c.bits.x : c.bits.y) >> (4 * j)) & 0x000f000fu;
    return MultiplyBf16x2((pair & 0x00070007u) << 6 | (pair & 0x00080008u) << 12, 0x7e807e80u);
  }
  __device__ static __forceinline__ float Scale(const Chunk& c, int step) {
    return E8M0(step == 0 ? c.scales & 255 : c.scales >> 8);
  }
  __device__ __forceinline__ float Value(int64_t block, const uint8_t* bytes, int i) const {
    return E8M0(*Row::Scale(block)) * E2M1(NibbleOfOctet(bytes, i));
  }
  __device__ static void Put(uint8_t* bytes, const uint8_t* quants, int octet) {
    PutNibbles(bytes, octet, [&](int i) { return NibbleOf32(quants, i); });
  }
};

// FP8 with a scale for 128 columns, of which half are a chunk; bytes as in q8_0. NaN, which no
// checkpoint has, is read as 480.
struct Fp8 : BlockRow<32, 128, 4> {
  static constexpr int kLaneBytes = 8;
  static constexpr int kChunkColumns = 64;
  static constexpr int kChunksAhead = 3;
  static constexpr int kTerms = 1;
  static constexpr bool kScaled = true;
  static constexpr bool kAlwaysWhole = true;
  struct Chunk {
    uint4 bits;
    float scale;
  };

  __device__ explicit Fp8(const Row& row) : Row(row) {}
  __device__ static Fp8 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Fp8(Row::Find(data, rows, columns, row));
  }
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int) const {
    return {LoadStreaming(reinterpret_cast<const uint4*>(quants + chunk * 64 + q * 16)),
            *reinterpret_cast<const float*>(Row::Scale(chunk / 2))};
  }
  // As in Mxfp4, by 2^120.
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t four = step == 0 ? (j < 2 ? c.bits.x : c.bits.y) : (j < 2 ? c.bits.z : c.bits.w);
    const uint32_t pair = j % 2 == 0 ? four : four >> 8;
    return MultiplyBf16x2((pair & 0x007f007fu) << 4 | (pair & 0x00800080u) << 8, 0x7b807b80u);
  }
  __device__ static __forceinline__ float Scale(const Chunk& c, int) { return c.scale; }
  __device__ __forceinline__ float Value(int64_t block, const uint8_t* bytes, int i) const {
    return FromE4M3(bytes[ByteOfOctet(i)]) * *reinterpret_cast<const float*>(Row::Scale(block / 4));
  }
  __device__ static void Put(uint8_t* bytes, const uint8_t* quants, int octet) {
    for (int i = 0; i < 8; ++i) bytes[ByteOfOctet(i)] = quants[octet * 8 + i];
  }
};

// Integers of 4 bits with a scale of type E and a zero point for 128 columns, of which half are a
// chunk; nibbles as in q4_0. A group of 8 rows begins at a multiple of 8 bytes only.
template <class E>
struct Int4 : BlockRow<16, 128, 3> {
  static constexpr int kLaneBytes = 4;
  static constexpr int kChunkColumns = 64;
  static constexpr int kChunksAhead = 3;
  static constexpr int kTerms = 1;
  static constexpr bool kScaled = true;
  static constexpr bool kAlwaysWhole = true;
  struct Chunk {
    uint2 bits;
    uint32_t scale_and_zero;  // 16 and 8 bits
  };

  __device__ explicit Int4(const Row& row) : Row(row) {}
  __device__ static Int4 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Int4(Row::Find(data, rows, columns, row));
  }
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int) const {
    return {LoadStreaming(reinterpret_cast<const uint2*>(quants + chunk * 32 + q * 8)),
            ScaleAndZero(chunk / 2)};
  }
  __device__ __forceinline__ uint32_t ScaleAndZero(int64_t block) const {
    const uint8_t* bytes = Row::Scale(block);
    return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16;
  }
  // 128 + value, less 128 + zero: bf16 has all whole numbers up to 256, and zeros are at most 16.
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t pair = ((step == 0 ? c.bits.x : c.bits.y) >> (4 * j)) & 0x000f000fu;
    const uint32_t zero = c.scale_and_zero >> 16;
    return SubtractBf16x2(pair | 0x43004300u, (zero | zero << 16) | 0x43004300u);
  }
  __device__ static __forceinline__ float Scale(const Chunk& c, int) {
    return E::Load(static_cast<uint16_t>(c.scale_and_zero));
  }
  __device__ __forceinline__ float Value(int64_t block, const uint8_t* bytes, int i) const {
    const uint32_t both = ScaleAndZero(block / 4);
    const int quant = NibbleOfOctet(bytes, i) - static_cast<int>(both >> 16);
    return E::Load(static_cast<uint16_t>(both)) * static_cast<float>(quant);
  }
  __device__ static void Put(uint8_t* bytes, const uint8_t* quants, int octet) {
    PutNibbles(bytes, octet, [&](int i) { return (quants[i / 2] >> 4 * (i % 2)) & 15; });
  }
};

}  // namespace tprun::cuda
