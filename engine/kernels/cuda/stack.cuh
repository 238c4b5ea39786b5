#pragma once

#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/matvec.h"

namespace tprun::cuda {

// What a block of a product works on: which matrix, and rows of x and of the output.
template <int kTokens>
struct ItemRows {
  int64_t matrix = 0;
  int64_t x_at = 0, out_at = 0;  // floats
  int tokens = 0;                // 0: nothing to do
  int x_row[kTokens];
  int out_row[kTokens];
};

// Item blockIdx.z of a stack, the same for all threads of a block.
template <int kTokens>
__device__ __forceinline__ ItemRows<kTokens> RowsOfItem(const MatrixStack& s) {
  ItemRows<kTokens> rows;
  const int z = blockIdx.z;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) rows.x_row[t] = rows.out_row[t] = 0;
  if (s.heads > 0) {
    const int head = z % s.heads, first = z / s.heads * kTokens;
    rows.matrix = head;
    rows.x_at = head * s.x_step;
    rows.out_at = head * s.out_step;
    rows.tokens = static_cast<int>(min(s.tokens - first, static_cast<int64_t>(kTokens)));
#pragma unroll
    for (int t = 0; t < kTokens; ++t) rows.x_row[t] = rows.out_row[t] = first + t;
  } else if (s.list == nullptr) {
    int slot = 0;
    for (int i = 0; i < z; ++i) {
      const int before = s.ids[i] - s.first_expert;
      slot += before >= 0 && before < s.experts ? 1 : 0;
    }
    rows.matrix = s.ids[z] - s.first_expert;
    const bool here = rows.matrix >= 0 && rows.matrix < s.experts && slot < s.slots;
    rows.tokens = here ? 1 : 0;
    rows.x_row[0] = s.x_by_slot ? slot : 0;
    rows.out_row[0] = slot;
  } else if (z < *s.count) {
    const StackItem item = s.list[z];
    rows.matrix = item.matrix;
    rows.tokens = item.visits;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int visit = t < item.visits ? s.visits[item.first_visit + t] : 0;
      rows.x_row[t] = s.x_by_slot ? visit : visit / s.slots;
      rows.out_row[t] = visit;
    }
  }
  return rows;
}

// The rows of a block of any product.
template <int kTokens, bool kStacked>
__device__ __forceinline__ ItemRows<kTokens> RowsOf(const MatVecArguments& a) {
  if constexpr (kStacked) return RowsOfItem<kTokens>(a.stack);
  ItemRows<kTokens> rows;
  rows.tokens = a.tokens;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) rows.x_row[t] = rows.out_row[t] = t;
  return rows;
}

}  // namespace tprun::cuda
