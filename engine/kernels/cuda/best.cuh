#pragma once

#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/reduce.cuh"

// The largest of some logits.

namespace tprun::cuda {

__device__ __forceinline__ bool IsFinite(float value) {
  return fabsf(value) <= 3.4028235e38f;  // false for NaN too
}

__device__ __forceinline__ Best BetterOf(const Best& a, const Best& b) {
  if (b.id < 0) return a;
  if (a.id < 0 || b.logit > a.logit) return b;
  return b.logit == a.logit && b.id < a.id ? b : a;
}

__device__ __forceinline__ Best BestOfWarp(Best best) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) {
    const Best other = {__shfl_xor_sync(kAllLanes, best.logit, bits),
                        __shfl_xor_sync(kAllLanes, best.id, bits)};
    best = BetterOf(best, other);
  }
  return best;
}

}  // namespace tprun::cuda
