#pragma once

#include "engine/kernels/cuda/formats.cuh"

// How a warp reads super-blocks of 256 (q4_k, q5_k, q6_k; engine/format/<name>.cc says what their
// bytes mean). A chunk is half a block: four steps of 32 columns, of which a lane has 8 in each. In
// groups of 8 rows (the last may have fewer) ArrangeBlocks leaves, each of all rows one after
// another: the low four bits [block, half, lane of the quad, step] as words, the high bits
// likewise, the 16 bytes of scales of each block, and what is left (d of q6_k). A lane's element i
// of a step is at bits 4 * (i / 2) and, of odd i, 16 above.

namespace tprun::cuda {

constexpr int kSuperBlock = 256;
constexpr int kHalfSteps = 4;

// Exactly, without a conversion, of which a multiprocessor does few at a time.
__device__ __forceinline__ float ByteOf(uint32_t word, int i) {
  return __uint_as_float(0x4b000000u | ((word >> (8 * i)) & 255u)) - 8388608.0f;
}

// Where a row is. kHighWords of 32 bits has a lane of a half's high bits; kTailBytes follow the
// scales.
template <int kHighWords_, int kTailBytes_>
struct SuperRow {
  static constexpr int kHighWords = kHighWords_;
  static constexpr int kTailBytes = kTailBytes_;
  static constexpr int kBytes = 144 + 32 * kHighWords + kTailBytes;
  static constexpr int kChunkColumns = kSuperBlock / 2;
  static constexpr int kTerms = 1;
  static constexpr bool kScaled = true;
  static constexpr bool kAlwaysWhole = true;

  const uint8_t* low;
  int high_at, scales_at, tail_at;  // bytes from `low`

  __device__ static SuperRow FindRow(const void* data, int64_t rows, int64_t columns, int64_t row) {
    const int blocks = static_cast<int>(columns / kSuperBlock);
    const int64_t group = row / kGroupRows;
    const int in_group = static_cast<int>(row % kGroupRows);
    const int64_t left = rows - group * kGroupRows;
    const int n = left < kGroupRows ? static_cast<int>(left) : kGroupRows;
    const auto* base =
        static_cast<const uint8_t*>(data) + group * kGroupRows * blocks * int64_t{kBytes};
    constexpr int kHigh = 32 * kHighWords;
    const int low_at = in_group * blocks * 128;
    return {base + low_at, n * blocks * 128 + in_group * blocks * kHigh - low_at,
            n * blocks * (128 + kHigh) + in_group * blocks * 16 - low_at,
            n * blocks * (144 + kHigh) + in_group * blocks * kTailBytes - low_at};
  }
  // Of lane q.
  __device__ __forceinline__ const uint4* Low(int chunk, int q) const {
    return reinterpret_cast<const uint4*>(low + chunk * 64 + q * 16);
  }
  __device__ __forceinline__ const uint32_t* High(int chunk, int q) const {
    return reinterpret_cast<const uint32_t*>(low + high_at + (chunk * 4 + q) * 4 * kHighWords);
  }
  __device__ __forceinline__ const uint8_t* Scales(int block) const {
    return low + scales_at + block * 16;
  }
  __device__ __forceinline__ const uint8_t* Tail(int block) const {
    return low + tail_at + block * kTailBytes;
  }
};

// The quants of a lane in a step, as they are stored.
template <class F>
__device__ __forceinline__ int StoredQuant(const F& row, int chunk, int q, int step, int i) {
  const int pair = i / 2, half = i % 2 * 16;
  const uint32_t word = reinterpret_cast<const uint32_t*>(row.Low(chunk, q))[step];
  int quant = (word >> (4 * pair + half)) & 15;
  if constexpr (F::kHighWords > 0) {
    constexpr int kBits = F::kHighWords;  // of an element, above the low four
    constexpr int kStepsOfWord = kHalfSteps / F::kHighWords;
    const uint32_t high = row.High(chunk, q)[step / kStepsOfWord];
    const int at = (step % kStepsOfWord * 4 + pair) * kBits + half;
    quant |= static_cast<int>((high >> at) & ((1u << kBits) - 1)) << 4;
  }
  return quant;
}

// q4_k and q5_k: value = d * scale * q - dmin * min, with a scale and a min of 6 bits per 32.
template <int kHighWords>
struct KRow : SuperRow<kHighWords, 0> {
  using Row = SuperRow<kHighWords, 0>;
  static constexpr bool kHalfScales = false;
  static constexpr bool kMins = true;
  static constexpr int kChunksAhead = 1;  // two do not fit the registers
  struct Chunk {
    uint4 low;
    uint32_t high;
    uint4 scales;  // d and dmin, then 12 bytes
    int half;      // of the block
  };

  __device__ explicit KRow(const Row& row) : Row(row) {}

  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int) const {
    Chunk c;
    const auto* scales = reinterpret_cast<const uint4*>(this->Scales(chunk / 2));
    if constexpr (kTightRegisters && kHighWords > 0) {
      c.low = LoadLate(this->Low(chunk, q));
      c.high = LoadLate(this->High(chunk, q));
      c.scales = LoadLate(scales);
    } else {
      c.low = LoadStreaming(this->Low(chunk, q));
      if constexpr (kHighWords > 0) c.high = LoadStreaming(this->High(chunk, q));
      c.scales = LoadInOrder(scales);
    }
    c.half = chunk % 2;
    return c;
  }
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t word = step == 0 ? c.low.x : step == 1 ? c.low.y : step == 2 ? c.low.z : c.low.w;
    uint32_t pair = (word >> (4 * j)) & 0x000f000fu;
    if constexpr (kHighWords > 0) pair |= ((c.high >> (4 * step + j)) & 0x00010001u) << 4;
    return SubtractBf16x2(pair | 0x43004300u, 0x43004300u);  // 128 + value, less 128
  }
  // Makes the chunk's half the first of its block.
  __device__ static __forceinline__ void Unpack(Chunk& c) {
    c.scales.y = ScalesOf(c);
    c.scales.z = MinsOf(c);
    c.half = 0;
    KeepInRegister(c.scales.y);
    KeepInRegister(c.scales.z);
  }
  __device__ static __forceinline__ uint32_t ScalesOf(const Chunk& c) {
    return c.half == 0 ? c.scales.y & 0x3f3f3f3fu
                       : (c.scales.w & 0x0f0f0f0fu) | (c.scales.y >> 2 & 0x30303030u);
  }
  __device__ static __forceinline__ uint32_t MinsOf(const Chunk& c) {
    return c.half == 0 ? c.scales.z & 0x3f3f3f3fu
                       : (c.scales.w >> 4 & 0x0f0f0f0fu) | (c.scales.z >> 2 & 0x30303030u);
  }
  __device__ static __forceinline__ float Scale(const Chunk& c, int step) {
    return HalfBits(c.scales.x & 0xffff) * ByteOf(ScalesOf(c), step);
  }
  __device__ static __forceinline__ float Min(const Chunk& c, int step) {
    return HalfBits(c.scales.x >> 16) * ByteOf(MinsOf(c), step);
  }
  // Neighbouring columns: the lane's.
  __device__ static __forceinline__ int LaneOf(int column) { return column % 32 / 8; }
  __device__ static __forceinline__ int IndexOf(int column) { return column % 8; }
  __device__ static __forceinline__ int ColumnOf(int step, int q, int i) {
    return step * 32 + q * 8 + i;
  }
  // The value of a column of a chunk, rounded as on the CPU.
  __device__ __forceinline__ float Value(int chunk, int column, int quant) const {
    Chunk c;
    c.scales = *reinterpret_cast<const uint4*>(this->Scales(chunk / 2));
    c.half = chunk % 2;
    const int step = column / kStepColumns;
    return __fadd_rn(__fmul_rn(Scale(c, step), static_cast<float>(quant)), -Min(c, step));
  }
  // ggml's order: d, dmin, 12 bytes of scales; the rest is the format's.
  __device__ static __forceinline__ const uint8_t* ScalesOf(const uint8_t* block) { return block; }
  __device__ static __forceinline__ const uint8_t* TailOf(const uint8_t*) { return nullptr; }
};

struct Q4_K : KRow<0> {
  __device__ explicit Q4_K(const Row& row) : KRow<0>(row) {}
  __device__ static Q4_K Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Q4_K(FindRow(data, rows, columns, row));
  }
  // Element i of a block in ggml's order.
  __device__ static __forceinline__ int QuantOf(const uint8_t* block, int i) {
    return (block[16 + 32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2)) & 15;
  }
};

struct Q5_K : KRow<1> {
  __device__ explicit Q5_K(const Row& row) : KRow<1>(row) {}
  __device__ static Q5_K Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Q5_K(FindRow(data, rows, columns, row));
  }
  __device__ static __forceinline__ int QuantOf(const uint8_t* block, int i) {
    const int low = (block[48 + 32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2)) & 15;
    return low | ((block[16 + i % 32] >> (i / 32)) & 1) << 4;
  }
};

// value = d * scale * (q - 32), with a signed byte of scale per 16: a lane has four columns of each
// 16, so that a half of the step is one of them.
struct Q6_K : SuperRow<2, 2> {
  static constexpr bool kHalfScales = true;
  static constexpr bool kMins = false;
  static constexpr int kChunksAhead = 1;
  struct Chunk {
    uint4 low;
    uint2 high, scales;
    uint32_t d;
  };

  __device__ explicit Q6_K(const SuperRow<2, 2>& row) : SuperRow<2, 2>(row) {}
  __device__ static Q6_K Find(const void* data, int64_t rows, int64_t columns, int64_t row) {
    return Q6_K(FindRow(data, rows, columns, row));
  }
  template <bool kWhole>
  __device__ __forceinline__ Chunk Load(int chunk, int q, int) const {
    Chunk c;
    c.low = LoadStreaming(Low(chunk, q));
    c.high = LoadStreaming(reinterpret_cast<const uint2*>(High(chunk, q)));
    c.scales = reinterpret_cast<const uint2*>(Scales(chunk / 2))[chunk % 2];
    c.d = *reinterpret_cast<const uint16_t*>(Tail(chunk / 2));
    return c;
  }
  __device__ static __forceinline__ uint32_t Pair(const Chunk& c, int step, int j, int) {
    const uint32_t word = step == 0 ? c.low.x : step == 1 ? c.low.y : step == 2 ? c.low.z : c.low.w;
    const uint32_t high = step < 2 ? c.high.x : c.high.y;
    const uint32_t pair =
        (word >> (4 * j) & 0x000f000fu) | (high >> (step % 2 * 8 + 2 * j) & 0x00030003u) << 4;
    return SubtractBf16x2(pair | 0x43004300u, 0x43204320u);  // 128 + value, less 160
  }
  // Of the step's 16 columns `half`. The sign's bit is turned, for ByteOf.
  __device__ static __forceinline__ float Scale(const Chunk& c, int step, int half) {
    const uint32_t four = (step < 2 ? c.scales.x : c.scales.y) ^ 0x80808080u;
    return HalfBits(c.d) * (ByteOf(four, step % 2 * 2 + half) - 128.0f);
  }
  __device__ __forceinline__ float Value(int chunk, int column, int quant) const {
    const auto scale = static_cast<int8_t>(Scales(chunk / 2)[chunk % 2 * 8 + column / 16]);
    const float d = HalfBits(*reinterpret_cast<const uint16_t*>(Tail(chunk / 2)));
    return d * static_cast<float>(scale) * static_cast<float>(quant - 32);
  }
  __device__ static __forceinline__ int LaneOf(int column) { return column % 16 / 4; }
  __device__ static __forceinline__ int IndexOf(int column) {
    return column % 32 / 16 * 4 + column % 4;
  }
  __device__ static __forceinline__ int ColumnOf(int step, int q, int i) {
    return step * 32 + i / 4 * 16 + q * 4 + i % 4;
  }
  __device__ static __forceinline__ const uint8_t* ScalesOf(const uint8_t* block) {
    return block + 192;
  }
  __device__ static __forceinline__ const uint8_t* TailOf(const uint8_t* block) {
    return block + 208;
  }
  __device__ static __forceinline__ int QuantOf(const uint8_t* block, int i) {
    const int low = (block[64 * (i / 128) + i % 64] >> 4 * (i % 128 / 64)) & 15;
    const int high = (block[128 + 32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32)) & 3;
    return low | high << 4;
  }
};

}  // namespace tprun::cuda
