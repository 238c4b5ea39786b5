#pragma once

#include <cstdint>

#include "engine/kernels/cuda/attention.cuh"
#include "engine/kernels/cuda/formats.cuh"

// What the tensor cores multiply where attention takes many tokens at once: for each type of cache
// 16-bit elements, which rows of the cache become while they are staged into shared memory. To be
// as exact as the kernel for single tokens, q is the sum of two (f16) or three (bf16) terms and the
// weights are the sum of two; sums are in f32.

namespace tprun::cuda {

// Words that hold elements 0 and 2, and 1 and 3, as pairs of neighbours.
__device__ __forceinline__ uint2 Interleaved(uint32_t even, uint32_t odd) {
  return make_uint2((even & 0xffffu) | (odd << 16), (even >> 16) | (odd & 0xffff0000u));
}

// A cache's rows (Rows) of these elements: Eight of them from a multiple of 8 on. With kScaled they
// are multiplied by the row's Scale of each 32.
template <class Element>
struct PlainTile : Element {
  using Rows = Element;
  static constexpr bool kScaled = false;
  __device__ static __forceinline__ uint4 Eight(const uint16_t* row, int first) {
    return *reinterpret_cast<const uint4*>(row + first);
  }
};

struct TileF16 : PlainTile<F16Element> {
  static constexpr int kQueryTerms = 2;
  static constexpr bool kNormalize = true;  // q to [1, 2), for f16's range
  __device__ static __forceinline__ void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4],
                                                     const uint32_t (&b)[2]) {
    MultiplyAddF16(d, a, b);
  }
};

struct TileBf16 : PlainTile<Bf16Element> {
  static constexpr int kQueryTerms = 3;
  static constexpr bool kNormalize = false;
  __device__ static __forceinline__ void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4],
                                                     const uint32_t (&b)[2]) {
    MultiplyAddBf16(d, a, b);
  }
};

// Every e4m3 is an f16.
struct TileE4M3 : TileF16 {
  using Rows = E4M3Element;
  // The bytes 0 and 2 of a word: an f16 whose exponent is 8 too small. Where all bits of a
  // magnitude are set, a NaN, the product would be 480: one more bit makes it one.
  __device__ static __forceinline__ uint32_t Decode(uint32_t word) {
    const uint32_t magnitude = (word & 0x007f007fu) << 7;
    const uint32_t nan = ((magnitude + 0x00800080u) & 0x40004000u) >> 1;
    constexpr uint32_t kTwoTo8 = 0x5c005c00u;
    return MultiplyF16x2(magnitude | ((word & 0x00800080u) << 8), kTwoTo8) | nan;
  }
  __device__ static __forceinline__ uint4 Eight(const uint8_t* row, int first) {
    const uint2 bits = *reinterpret_cast<const uint2*>(row + first);
    const uint2 low = Interleaved(Decode(bits.x), Decode(bits.x >> 8));
    const uint2 high = Interleaved(Decode(bits.y), Decode(bits.y >> 8));
    return make_uint4(low.x, low.y, high.x, high.y);
  }
};

// The quants, which are bf16 exactly; their scales are for the sums.
struct TileQ8_0 : TileBf16 {
  using Rows = Q8_0Rows;
  static constexpr bool kScaled = true;
  __device__ static __forceinline__ const uint16_t* BlockAt(const uint8_t* row, int block) {
    return reinterpret_cast<const uint16_t*>(row + block * Q8_0Rows::kBlockBytes);
  }
  __device__ static __forceinline__ float Scale(const uint8_t* row, int block) {
    return F16Element::Load(*BlockAt(row, block));
  }
  __device__ static __forceinline__ uint4 Eight(const uint8_t* row, int first) {
    const uint16_t* at = BlockAt(row, first / kBlock) + 1 + first % kBlock / 2;
    const uint32_t x = at[0] | uint32_t{at[1]} << 16, y = at[2] | uint32_t{at[3]} << 16;
    const uint2 low = Interleaved(Q8_0::Decode(x), Q8_0::Decode(x >> 8));
    const uint2 high = Interleaved(Q8_0::Decode(y), Q8_0::Decode(y >> 8));
    return make_uint4(low.x, low.y, high.x, high.y);
  }
};

// Some tokens of one sequence, to be taken at once.
struct PrefillArguments {
  AttentionArguments a;
  int64_t first_token;     // of the run, in q and out
  int64_t first_position;  // of the run
  int tokens;              // of the run
  int sequence;
};

// Which row of q a row of a block is.
struct PrefillRow {
  int token;  // in the run
  int head;   // in the group
};
__device__ __forceinline__ PrefillRow RowOf(int64_t row, const HeadGroup& group, int tokens) {
  const int64_t last = int64_t{tokens} * group.count - 1;
  row = row < last ? row : last;  // rows beyond the last repeat it
  return {static_cast<int>(row / group.count), static_cast<int>(row % group.count)};
}

// The positions [begin, end) that some of rows [first, first + rows) see.
struct Positions {
  int64_t begin, end;
};
__device__ __forceinline__ int64_t FirstSeen(const PrefillArguments& p, int64_t position) {
  return p.a.window > 0 && position >= p.a.window ? position - p.a.window + 1 : 0;
}
__device__ __forceinline__ Positions SeenBy(const PrefillArguments& p, const HeadGroup& group,
                                            int64_t first, int rows) {
  const int64_t earliest = p.first_position + RowOf(first, group, p.tokens).token;
  const int64_t latest = p.first_position + RowOf(first + rows - 1, group, p.tokens).token;
  return {FirstSeen(p, earliest), latest + 1};
}

// The rows of the run's sequence and a group's head in the cache's keys or values.
template <class E>
__device__ __forceinline__ const typename E::Rows::Bits* RowsOfHead(const PrefillArguments& p,
                                                                    int kv_head, const void* data) {
  using Bits = typename E::Rows::Bits;
  const char* sequence = static_cast<const char*>(data) + p.sequence * p.a.cache.sequence_stride;
  return E::Rows::RowAt(reinterpret_cast<const Bits*>(sequence), kv_head * p.a.cache.capacity,
                        p.a.cache.head_dim);
}

// A power of two that brings the largest of a row of q to [1, 2), and what undoes it.
struct Normalization {
  float up, down;
};
template <class E>
__device__ __forceinline__ Normalization NormalizationOf(float largest) {
  Normalization normalization = {1, 1};
  if constexpr (E::kNormalize) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, bits));
    }
    int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
    exponent = min(max(exponent, -126), 126);
    normalization.up = __uint_as_float(static_cast<uint32_t>(127 - exponent) << 23);
    normalization.down = __uint_as_float(static_cast<uint32_t>(127 + exponent) << 23);
  }
  return normalization;
}

// Two terms of the weights of 16 keys, each a left factor of the tensor cores: weights[0] and [1]
// are those of 8 keys each, in the layout of sums.
template <class E>
__device__ __forceinline__ void SplitWeights(const float (&weights)[2][4], uint32_t (&a)[2][4]) {
  float rest[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) rest[i] = weights[i / 4][i % 4];
#pragma unroll
  for (int term = 0; term < 2; ++term) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = E::Store(rest[2 * i]), high = E::Store(rest[2 * i + 1]);
      a[term][i] = low | high << 16;
      rest[2 * i] -= E::Load(static_cast<uint16_t>(low));
      rest[2 * i + 1] -= E::Load(static_cast<uint16_t>(high));
    }
  }
}

}  // namespace tprun::cuda
