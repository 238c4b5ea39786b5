// Weight blocks of 32 values with one f16 scale, decoded in registers, per instruction set.
// Layouts: engine/format/q8_0.cc, q4_0.cc.

#include <atomic>
#include <cstring>

#include "engine/kernels/simd-inl.h"

#if defined(TPRUN_QUANT_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_QUANT_BLOCKS_INL_H_
#undef TPRUN_QUANT_BLOCKS_INL_H_
#else
#define TPRUN_QUANT_BLOCKS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

inline constexpr int kBlockValues = 32;
inline constexpr int kBlockVectors = kBlockValues / kLanes;

// Decode gives the 32 values of a block before the scale, as vectors in the order of the columns.
struct Q8_0Block {
  static constexpr int64_t kBytes = 34;
  static constexpr int64_t kBlocksPerLine = 1;  // a cache line of 64 bytes, rounded down
  static HWY_INLINE void Decode(const uint8_t* block, F32Vec values[kBlockVectors]) {
    const hn::Rebind<int8_t, F32Tag> d8;
    const int8_t* q = reinterpret_cast<const int8_t*>(block + 2);
    for (int i = 0; i < kBlockVectors; ++i) {
      const auto wide = hn::PromoteTo(I32Tag(), hn::LoadU(d8, q + i * kLanes));
      values[i] = hn::ConvertTo(F32Tag(), wide);
    }
  }
};

struct Q4_0Block {
  static constexpr int64_t kBytes = 18;
  static constexpr int64_t kBlocksPerLine = 2;  // a power of 2, to test for cheaply
  static HWY_INLINE void Decode(const uint8_t* block, F32Vec values[kBlockVectors]) {
    const hn::Rebind<uint8_t, F32Tag> d8;
    for (int i = 0; i < kBlockVectors / 2; ++i) {
      const auto pair = hn::PromoteTo(I32Tag(), hn::LoadU(d8, block + 2 + i * kLanes));
      values[i] = FromNibble(pair);
      values[i + kBlockVectors / 2] = FromNibble(hn::ShiftRight<4>(pair));
    }
  }

 private:
  // The low 4 bits of each lane, less 8, as float.
  static HWY_INLINE F32Vec FromNibble(hn::Vec<I32Tag> v) {
    const F32Tag d;
    const I32Tag di;
#if HWY_ARCH_X86 && HWY_MAX_BYTES == 64
    // VPERMPS looks at the low 4 bits only: one instruction for mask, offset and conversion.
    if (HWY_IS_DEBUG_BUILD) v = hn::And(v, hn::Set(di, 15));
    return hn::TableLookupLanes(hn::Iota(d, -8), hn::IndicesFromVec(d, v));
#else
    return hn::ConvertTo(d, hn::Sub(hn::And(v, hn::Set(di, 15)), hn::Set(di, 8)));
#endif
  }
};

inline constexpr int64_t kScaleChunk = 16;
struct ScaleChunk {
  uint8_t halves[kScaleChunk * sizeof(uint16_t)];
};

// The scales of the first kScaleChunk of `count` blocks, or of all. The fence keeps the compiler
// from building vectors of them, on the port that the decoding is bound by.
template <class Block>
HWY_INLINE void CollectScales(const uint8_t* blocks, int64_t count, ScaleChunk* chunk) {
  const int64_t n = count < kScaleChunk ? count : kScaleChunk;
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(chunk->halves + 2 * i, blocks + i * Block::kBytes, 2);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
}

HWY_INLINE void WidenScales(const ScaleChunk& chunk, float* HWY_RESTRICT scales) {
  for (int i = 0; i < kScaleChunk; i += kLanes) {
    hn::StoreU(F16ToF32(chunk.halves + 2 * i), F32Tag(), scales + i);
  }
}

// Decodes `count` values, a multiple of 32.
template <class Block>
HWY_INLINE void DecodeBlocks(const uint8_t* in, int64_t count, float* HWY_RESTRICT out) {
  const F32Tag d;
  HWY_ALIGN ScaleChunk halves = {};
  HWY_ALIGN float scales[kScaleChunk];
  for (int64_t b = 0; b < count / kBlockValues; ++b) {
    if (b % kScaleChunk == 0) {
      CollectScales<Block>(in + b * Block::kBytes, count / kBlockValues - b, &halves);
      WidenScales(halves, scales);
    }
    F32Vec values[kBlockVectors];
    Block::Decode(in + b * Block::kBytes, values);
    const F32Vec scale = hn::Set(d, scales[b % kScaleChunk]);
    for (int i = 0; i < kBlockVectors; ++i) {
      hn::StoreU(hn::Mul(values[i], scale), d, out + b * kBlockValues + i * kLanes);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
