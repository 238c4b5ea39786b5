// Rows of a KV cache as vectors of f32, per instruction set.

#include <algorithm>
#include <cstdint>

#include "engine/kernels/kernels.h"
#include "engine/kernels/quant_blocks-inl.h"
#include "engine/kernels/simd-inl.h"

#if defined(TPRUN_CACHE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_CACHE_ROWS_INL_H_
#undef TPRUN_CACHE_ROWS_INL_H_
#else
#define TPRUN_CACHE_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

// Neighbouring rows. Load gives elements [i, i + kLanes) of one, i a multiple of kLanes; LoadTail
// the last `count`, and zeros.
template <class Element>
struct PlainRows {
  const uint8_t* data;
  int64_t stride;  // bytes
  static HWY_INLINE F32Vec Load(const uint8_t* row, int64_t i) {
    return Element::Load(row + i * Element::kBytes);
  }
  static HWY_INLINE F32Vec LoadTail(const uint8_t* row, int64_t i, int64_t count) {
    return Element::LoadTail(row + i * Element::kBytes, count);
  }
};

// Blocks are whole vectors: there is no tail.
struct Q8_0Rows {
  const uint8_t* data;
  int64_t stride;
  static HWY_INLINE F32Vec Load(const uint8_t* row, int64_t i) {
    const uint8_t* block = row + i / kBlockValues * Q8_0Block::kBytes;
    const hn::Rebind<int8_t, F32Tag> d8;
    const auto q = hn::LoadU(d8, reinterpret_cast<const int8_t*>(block + 2 + i % kBlockValues));
    return hn::Mul(hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), q)), ScaleOf(block));
  }
  static HWY_INLINE F32Vec LoadTail(const uint8_t* row, int64_t i, int64_t /*count*/) {
    return Load(row, i);
  }

 private:
  static HWY_INLINE F32Vec ScaleOf(const uint8_t* block) {
    uint16_t bits;
    std::memcpy(&bits, block, sizeof(bits));
    return F16ToF32(hn::Set(hn::Rebind<uint16_t, F32Tag>(), bits));
  }
};

// A row of any format as f32.
HWY_INLINE void WidenRow(const WeightFormat& format, const uint8_t* in, int64_t count, float* out) {
  if (&format == &kF32Format) return Widen<F32Element>(in, count, out);
  if (&format == &kF16Format) return Widen<F16Element>(in, count, out);
  if (&format == &kBF16Format) return Widen<BF16Element>(in, count, out);
  if (&format == &kE4M3Format) return Widen<E4M3Element>(in, count, out);
  if (&format == &kQ8_0Format) return DecodeBlocks<Q8_0Block>(in, count, out);
  format.dequantize(in, out, count);
}

using FloatRows = PlainRows<F32Element>;
HWY_INLINE FloatRows RowsAt(const float* data, int64_t stride) {
  return {reinterpret_cast<const uint8_t*>(data), stride * static_cast<int64_t>(sizeof(float))};
}

// Calls body with the rows from `data` on, where their elements can be taken out of the cache
// directly; false where they cannot.
template <class Body>
HWY_INLINE bool WithRows(const KvCacheView& cache, const uint8_t* data, const Body& body) {
  const int64_t stride = cache.row_bytes();
  if (cache.format == &kF16Format) {
    body(PlainRows<F16Element>{data, stride});
  } else if (cache.format == &kBF16Format) {
    body(PlainRows<BF16Element>{data, stride});
  } else if (cache.format == &kF32Format) {
    body(FloatRows{data, stride});
  } else if (cache.format == &kE4M3Format) {
    body(PlainRows<E4M3Element>{data, stride});
  } else if (cache.format == &kQ8_0Format) {
    body(Q8_0Rows{data, stride});
  } else {
    return false;
  }
  return true;
}

// Lane i of the result is v[i]'s lanes joined by `op`, of kN = kLanes vectors.
template <int kN = kLanes, class Op>
HWY_INLINE F32Vec ReduceEach(const F32Vec* v, [[maybe_unused]] const Op& op) {
#if HWY_TARGET == HWY_SCALAR
  return v[0];
#else
  const F32Tag d;
  const hn::Repartition<double, F32Tag> d64;
  // Lane i of each block of 128 bits: that block of v[first + i].
  const auto four = [&](int first) HWY_ATTR {
    const auto two = [&](F32Vec a, F32Vec b) HWY_ATTR {
      return hn::BitCast(d64, op(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
    };
    const auto low = two(v[first], v[first + 1]), high = two(v[first + 2], v[first + 3]);
    return op(hn::BitCast(d, hn::InterleaveLower(d64, low, high)),
              hn::BitCast(d, hn::InterleaveUpper(d64, low, high)));
  };
  if constexpr (kN == 4) {
    return four(0);
  } else {
    const auto halves = [&](F32Vec a, F32Vec b) HWY_ATTR {
      return op(hn::ConcatLowerLower(d, b, a), hn::ConcatUpperUpper(d, b, a));
    };
    if constexpr (kN == 8) {
      return halves(four(0), four(4));
    } else {
      static_assert(kN == 16);
      // Blocks [a, a, b, b] and [c, c, d, d], to be joined as [a, c, b, d].
      const F32Vec x = halves(four(0), four(8)), y = halves(four(4), four(12));
      return op(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(y), x),
                hn::OddEvenBlocks(y, hn::SwapAdjacentBlocks(x)));
    }
  }
#endif
}
HWY_INLINE F32Vec SumEach(const F32Vec* v) {
  return ReduceEach(v, [](F32Vec a, F32Vec b) HWY_ATTR { return hn::Add(a, b); });
}
HWY_INLINE F32Vec MaxEach(const F32Vec* v) {
  return ReduceEach(v, [](F32Vec a, F32Vec b) HWY_ATTR { return hn::Max(a, b); });
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
