// c [m, n] += a [m, k] * b [k, n] for f32 in the cache, per instruction set: outer products, one
// element of a broadcast against a row of b.

#include <algorithm>

#include "engine/kernels/cache_rows-inl.h"
#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/simd-inl.h"

#if defined(TPRUN_GEMM_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TPRUN_GEMM_TILE_INL_H_
#undef TPRUN_GEMM_TILE_INL_H_
#else
#define TPRUN_GEMM_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

// kTileM x kTileVectors accumulators, the vectors of b and one of a fit the registers: 32 with
// AVX-512, else 16.
inline constexpr int kTileM = kLanes == 16 ? 12 : 6;
inline constexpr int kTileVectors = kLanes == 1 ? 4 : 2;
inline constexpr int kTileN = kTileVectors * kLanes;
static_assert(kTileN % 4 == 0, "Transpose takes 4 rows at a time");

template <int kM, bool kAdd, class Rows>
HWY_INLINE void GemmTile(int64_t k, const float* HWY_RESTRICT a, int64_t a_stride, const Rows& b,
                         int64_t column, float* HWY_RESTRICT c, int64_t c_stride) {
  const F32Tag d;
  F32Vec sums[kM][kTileVectors];
  for (int m = 0; m < kM; ++m) {
    for (int v = 0; v < kTileVectors; ++v) {
      sums[m][v] = kAdd ? hn::LoadU(d, c + m * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  for (int64_t i = 0; i < k; ++i) {
    F32Vec row[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      row[v] = Rows::Load(b.data + i * b.stride, column + v * kLanes);
    }
    for (int m = 0; m < kM; ++m) {
      const F32Vec element = hn::Set(d, a[m * a_stride + i]);
      for (int v = 0; v < kTileVectors; ++v) sums[m][v] = hn::MulAdd(element, row[v], sums[m][v]);
    }
  }
  for (int m = 0; m < kM; ++m) {
    for (int v = 0; v < kTileVectors; ++v) {
      hn::StoreU(sums[m][v], d, c + m * c_stride + v * kLanes);
    }
  }
}

// n columns, a multiple of kTileN, and any m; b as rows of cache_rows-inl.h. Not kAdd: c = a * b.
template <bool kAdd = true, class Rows>
HWY_INLINE void Gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride,
                     const Rows& b, float* c, int64_t c_stride) {
  for (int64_t j = 0; j < n; j += kTileN) {
    int64_t i = 0;
    const auto run = [&](auto rows) HWY_ATTR {
      constexpr int kM = decltype(rows)::value;
      for (; i + kM <= m; i += kM) {
        GemmTile<kM, kAdd>(k, a + i * a_stride, a_stride, b, j, c + i * c_stride + j, c_stride);
      }
    };
    run(std::integral_constant<int, kTileM>());
    if constexpr (kTileM > 8) run(std::integral_constant<int, 8>());
    run(std::integral_constant<int, 4>());
    run(std::integral_constant<int, 2>());
    run(std::integral_constant<int, 1>());
  }
}
HWY_INLINE void Gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride,
                     const float* b, int64_t b_stride, float* c, int64_t c_stride) {
  Gemm(m, n, k, a, a_stride, RowsAt(b, b_stride), c, c_stride);
}

// The rows of a part of out get the bias, or 0.
HWY_INLINE void FillWithBias(const WeightMatrix& w, const float* bias, const MatMulPart& part,
                             float* out, int64_t out_stride) {
  const int64_t begin = part.tile_begin * kTileN;
  const int64_t end = std::min<int64_t>(part.tile_end * kTileN, w.rows);
  for (int64_t t = part.token_begin; t < part.token_end; ++t) {
    float* row = out + t * out_stride;
    if (bias == nullptr) {
      std::fill(row + begin, row + end, 0.0f);
    } else {
      std::copy(bias + begin, bias + end, row + begin);
    }
  }
}

// out [columns, out_stride] = in [rows, in_stride] transposed; rows a multiple of 4.
HWY_INLINE void Transpose(const float* HWY_RESTRICT in, int64_t in_stride, int64_t rows,
                          int64_t columns, float* HWY_RESTRICT out, int64_t out_stride) {
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> d64;
#endif
  for (int64_t r = 0; r < rows; r += 4) {
    int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
    for (; c + 4 <= columns; c += 4) {
      const float* p = in + r * in_stride + c;
      const auto r0 = hn::LoadU(d, p), r1 = hn::LoadU(d, p + in_stride);
      const auto r2 = hn::LoadU(d, p + 2 * in_stride), r3 = hn::LoadU(d, p + 3 * in_stride);
      const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
      const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
      const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
      const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
      float* q = out + c * out_stride + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, q);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, q + out_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d, q + 2 * out_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d, q + 3 * out_stride);
    }
#endif
    for (; c < columns; ++c) {
      for (int i = 0; i < 4; ++i) out[c * out_stride + r + i] = in[(r + i) * in_stride + c];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
