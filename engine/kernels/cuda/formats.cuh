#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"

// How a warp reads the weights of each format: one struct each. Four lanes (a quad, q = 0..3) read
// a row together, 16 bytes each: a chunk of kChunkColumns columns, which is kSteps times 32. In a
// step lane q has 8 neighbouring columns, as 4 pairs of bf16, which is what the tiles of
// MultiplyAddBf16 take: the order of columns within a product does not matter, as long as x has the
// same. kChunksAhead of them are on their way to the registers at a time. With kScaled a step's
// product is multiplied by Scale(chunk, step); with kHalfScales that of each half of the step's
// pairs by Scale(chunk, step, half), and the halves are its columns 0..15 and 16..31; with kMins
// Min(chunk, step) times the sum of x is taken from it. kAlwaysWhole: rows are whole chunks.
//
// To add a format: a struct here or in k_formats.cuh, a .cu as matvec_q8_0.cu, and a line in each
// switch of weights.cu and matvec.cu. A block format also says where ArrangeBlocks puts its
// quants.

namespace tprun::cuda {

constexpr int kStepColumns = 32;
constexpr int kGroupRows = 8;
constexpr int kBlock = 32;  // elements of a block of q8_0 and q4_0

__device__ __forceinline__ float HalfBits(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// The upper halves of two floats, which are bf16 when the rest is zero; `low` in the low half.
__device__ __forceinline__ uint32_t PackUpper(float low, float high) {
  return (__float_as_uint(high) & 0xffff0000u) | (__float_as_uint(low) >> 16);
}
__device__ __forceinline__ float Truncated(float x) {
  return __uint_as_float(__float_as_uint(x) & 0xffff0000u);
}

// Rows of 16-bit elements, one after another.
struct HalfRow {
  const uint16_t* data;

  struct Chunk {
    uint4 bits;
  };
  static constexpr int kChunkColumns = 32;
  static constexpr int kChunksAhead = 4;
  static constexpr bool kScaled = false;
  static constexpr bool kHalfScales = false;
  static constexpr bool kMins = false;
  static constexpr bool kAlwaysWhole = false;

  __device__ static HalfRow Find(const void* data, int64_t, int64_t columns, int64_t row) {
    return {static_cast<const uint16_t*>(data) + row * columns};
  }
  // columns is a multiple of 8. With kWhole all chunks are full and this is one of them; otherwise
  // it may be the last, or beyond it: zeros there.
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int columns) const {
    const int column = chunk * kChunkColumns + q * 8;
    if (!kWhole && column >= columns) return {make_uint4(0, 0, 0, 0)};
    return {LoadStreaming(reinterpret_cast<const uint4*>(data + column))};
  }
  __device__ static __forceinline__ uint32_t Word(const Chunk& c, int j) {
    return j == 0 ? c.bits.x : j == 1 ? c.bits.y : j == 2 ? c.bits.z : c.bits.w;
  }
  __device__ static __forceinline__ float Scale(const Chunk&, int) { return 1; }
};

struct Bf16 : HalfRow {
  static constexpr int kTerms = 1;  // bf16 values whose sum is the weight
  __device__ explicit Bf16(const HalfRow& row) : HalfRow(row) {}
  __device__ static Bf16 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Bf16(HalfRow::Find(data, rows, columns, row));
  }
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int, int j, int) {
    return Word(c, j);
  }
  __device__ static __forceinline__ float Value(uint16_t bits) {
    return __uint_as_float(uint32_t{bits} << 16);
  }
};

// 11 bits of significand are two bf16, exactly.
struct F16 : HalfRow {
  static constexpr int kTerms = 2;
  static constexpr int kChunksAhead = 2;
  __device__ explicit F16(const HalfRow& row) : HalfRow(row) {}
  __device__ static F16 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return F16(HalfRow::Find(data, rows, columns, row));
  }
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int, int j, int term) {
    const uint32_t bits = Word(c, j);
    const float low = HalfBits(bits & 0xffff), high = HalfBits(bits >> 16);
    if (term == 0) return PackUpper(low, high);
    return PackUpper(low - Truncated(low), high - Truncated(high));
  }
  __device__ static __forceinline__ float Value(uint16_t bits) { return HalfBits(bits); }
};

// Where a row of blocks is, as ArrangeBlocks leaves it: kQuantBytes for every 32 columns, and a
// scale for every kScaleColumns.
template <int kQuantBytes_, int kScaleColumns_ = kBlock, int kScaleBytes_ = 2>
struct BlockRow {
  using Row = BlockRow;
  static constexpr int kQuantBytes = kQuantBytes_;
  static constexpr int kScaleColumns = kScaleColumns_;
  static constexpr int kScaleBytes = kScaleBytes_;
  static constexpr int kFileBytes =  // of a scale and what it scales
      kScaleBytes + kQuantBytes * (kScaleColumns / kBlock);
  static constexpr bool kHalfScales = false;
  static constexpr bool kMins = false;
  static constexpr bool kAlwaysWhole = false;

  const uint8_t* quants;
  int scales_at;  // bytes from the quants to the scales

  __device__ static BlockRow Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    const int64_t scales = columns / kScaleColumns, group = row / kGroupRows;
    const int64_t in_group = row % kGroupRows, left = rows - group * kGroupRows;
    const int64_t n = left < kGroupRows ? left : kGroupRows;  // rows of the group
    const uint8_t* base =
        static_cast<const uint8_t*>(data) + group * kGroupRows * scales * kFileBytes;
    const int64_t row_bytes = columns / kBlock * kQuantBytes;
    // At most 8 rows further.
    return {base + in_group * row_bytes,
            static_cast<int>((n - in_group) * row_bytes + in_group * scales * kScaleBytes)};
  }
  __device__ __forceinline__ const uint8_t* Scale(int64_t block) const {
    return quants + scales_at + block * kScaleBytes;
  }
  __device__ __forceinline__ uint32_t ScaleBits(int64_t block) const {
    return *reinterpret_cast<const uint16_t*>(Scale(block));
  }
};

// Where the elements of 8 bytes, or 4 of nibbles, lie: so that a word holds pairs in its halves.
__device__ __forceinline__ int ByteOfOctet(int i) { return i / 4 * 4 + i % 2 * 2 + i % 4 / 2; }
__device__ __forceinline__ int NibbleOfOctet(const uint8_t* bytes, int i) {
  const int bit = i % 2 * 16 + i / 2 * 4;
  return bytes[bit / 8] >> (bit % 8) & 15;
}
// Puts octet `octet` of 32 nibbles, element i of which is from(i), to 4 bytes.
template <class From>
__device__ __forceinline__ void PutNibbles(uint8_t* bytes, int octet, const From& from) {
  for (int b = 0; b < 4; ++b) bytes[b] = 0;
  for (int i = 0; i < 8; ++i) {
    const int bit = i % 2 * 16 + i / 2 * 4;
    bytes[bit / 8] |= static_cast<uint8_t>(from(octet * 8 + i) << (bit % 8));
  }
}
// ggml's order of 32 nibbles: byte i has element i below and element i + 16 above.
__device__ __forceinline__ int NibbleOf32(const uint8_t* nibbles, int i) {
  return (nibbles[i % 16] >> 4 * (i / 16)) & 15;
}

// A block of 32 signed bytes. Two blocks make a chunk; lane q has the bytes 8q..8q+7 of the first,
// then of the second. A last chunk of one block has 8 bytes per lane. Each 4 bytes hold elements
// 0, 2, 1, 3, so that a word and the word shifted by 8 have a pair in its halves.
struct Q8_0 : BlockRow<32> {
  static constexpr int kLaneBytes = 8;  // of a block
  static constexpr int kChunkColumns = 64;
  static constexpr int kChunksAhead = 3;
  static constexpr int kTerms = 1;
  static constexpr bool kScaled = true;
  struct Chunk {
    uint4 bits;
    uint32_t scales;
  };

  __device__ explicit Q8_0(const BlockRow<32>& row) : BlockRow<32>(row) {}
  __device__ static Q8_0 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Q8_0(BlockRow<32>::Find(data, rows, columns, row));
  }
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int columns) const {
    Chunk c = {make_uint4(0, 0, 0, 0), 0};
    const int block = chunk * 2, blocks = columns / kBlock;
    const uint8_t* at = quants + block * kQuantBytes;
    if (kWhole || block + 1 < blocks) {
      c.bits = LoadStreaming(reinterpret_cast<const uint4*>(at + q * 16));
      c.scales = kWhole || blocks % 2 == 0
                     ? *reinterpret_cast<const uint32_t*>(BlockRow<32>::Scale(block))
                     : ScaleBits(block) | ScaleBits(block + 1) << 16;
    } else if (block < blocks) {
      const uint2 half = LoadStreaming(reinterpret_cast<const uint2*>(at + q * 8));
      c.bits.x = half.x;
      c.bits.y = half.y;
      c.scales = ScaleBits(block);
    }
    return c;
  }
  // bf16 has 7 bits below the leading one: 128 + (the low 7 bits), less 128, or 256 for a negative
  // byte, whose sign bit is just the bit that makes 256 of 128.
  __device__ static __forceinline__ uint32_t Decode(uint32_t word) {
    return SubtractBf16x2((word & 0x007f007fu) | 0x43004300u, (word & 0x00800080u) | 0x43004300u);
  }
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t word = step == 0 ? (j < 2 ? c.bits.x : c.bits.y) : (j < 2 ? c.bits.z : c.bits.w);
    return Decode(j % 2 == 0 ? word : word >> 8);
  }
  __device__ static __forceinline__ float Scale(const Chunk& c, int step) {
    return HalfBits(step == 0 ? c.scales & 0xffff : c.scales >> 16);
  }
  // Element i of the 8 at `bytes`, of block `block`.
  __device__ __forceinline__ float Value(int64_t block, const uint8_t* bytes, int i) const {
    const auto quant = static_cast<int8_t>(bytes[ByteOfOctet(i)]);
    return static_cast<float>(quant) * HalfBits(ScaleBits(block));
  }
  __device__ static void Put(uint8_t* bytes, const uint8_t* quants, int octet) {
    for (int i = 0; i < 8; ++i) bytes[ByteOfOctet(i)] = quants[octet * 8 + i];
  }
};

// A block of 32 values of 4 bits, less 8. Four blocks make a chunk; lane q has 4 bytes of each: its
// 8 elements at bits 0, 16, 4, 20, 8, ... A last chunk of n < 4 blocks has 4n bytes per lane.
struct Q4_0 : BlockRow<16> {
  static constexpr int kLaneBytes = 4;
  static constexpr int kChunkColumns = 128;
  static constexpr int kChunksAhead = 2;
  static constexpr int kTerms = 1;
  static constexpr bool kScaled = true;
  struct Chunk {
    uint4 bits;
    uint2 scales;
  };

  __device__ explicit Q4_0(const BlockRow<16>& row) : BlockRow<16>(row) {}
  __device__ static Q4_0 Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Q4_0(BlockRow<16>::Find(data, rows, columns, row));
  }
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int columns) const {
    Chunk c = {make_uint4(0, 0, 0, 0), make_uint2(0, 0)};
    const int block = chunk * 4, blocks = columns / kBlock, left = blocks - block;
    if (kWhole || left >= 4) {
      c.bits = LoadStreaming(reinterpret_cast<const uint4*>(quants + block * kQuantBytes + q * 16));
      if (kWhole || blocks % 4 == 0) {
        c.scales = *reinterpret_cast<const uint2*>(BlockRow<16>::Scale(block));
      } else {
        c.scales.x = ScaleBits(block) | ScaleBits(block + 1) << 16;
        c.scales.y = ScaleBits(block + 2) | ScaleBits(block + 3) << 16;
      }
    } else if (left > 0) {
      const uint32_t* words =
          reinterpret_cast<const uint32_t*>(quants + block * kQuantBytes + q * 4 * left);
      c.bits.x = words[0];
      c.scales.x = ScaleBits(block);
      if (left > 1) {
        c.bits.y = words[1];
        c.scales.x |= ScaleBits(block + 1) << 16;
      }
      if (left > 2) {
        c.bits.z = words[2];
        c.scales.y = ScaleBits(block + 2);
      }
    }
    return c;
  }
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t word = step == 0   ? c.bits.x
                          : step == 1 ? c.bits.y
                          : step == 2 ? c.bits.z
                                      : c.bits.w;
    const uint32_t pair = (word >> (4 * j)) & 0x000f000fu;
    return SubtractBf16x2(pair | 0x43004300u, 0x43084308u);  // 128 + value, less 136
  }
  __device__ static __forceinline__ float Scale(const Chunk& c, int step) {
    const uint32_t two = step < 2 ? c.scales.x : c.scales.y;
    return HalfBits(step % 2 == 0 ? two & 0xffff : two >> 16);
  }
  __device__ __forceinline__ float Value(int64_t block, const uint8_t* bytes, int i) const {
    return static_cast<float>(NibbleOfOctet(bytes, i) - 8) * HalfBits(ScaleBits(block));
  }
  __device__ static void Put(uint8_t* bytes, const uint8_t* quants, int octet) {
    PutNibbles(bytes, octet, [&](int i) { return NibbleOf32(quants, i); });
  }
};

// Where lane q's part of a block starts, from the start of the row's quants.
template <class F>
__device__ __forceinline__ int64_t OctetOffset(int64_t block, int q, int64_t blocks) {
  constexpr int kChunkBlocks = F::kChunkColumns / kBlock;
  const int64_t first = block / kChunkBlocks * kChunkBlocks;
  const int64_t in_chunk = blocks - first < kChunkBlocks ? blocks - first : kChunkBlocks;
  return first * F::kQuantBytes + (q * in_chunk + (block - first)) * F::kLaneBytes;
}

}  // namespace tprun::cuda
