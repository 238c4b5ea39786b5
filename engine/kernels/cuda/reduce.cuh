#pragma once

#include <cuda_runtime.h>

namespace tprun::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ float SumOfWarp(float value) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}

// The sum over the block, in every thread; whole warps. To be called by all threads.
__device__ __forceinline__ float SumOfBlock(float value) {
  __shared__ float sums[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  value = SumOfWarp(value);
  if (warps == 1) return value;
  __syncthreads();  // the sums of an earlier call have been read
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  return SumOfWarp(lane < warps ? sums[lane] : 0.0f);
}

__device__ __forceinline__ float MaxOfBlock(float value) {
  __shared__ float maxima[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
  for (int pass = 0; pass < 2; ++pass) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) {
      value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, bits));
    }
    if (pass == 1) break;
    __syncthreads();
    if (lane == 0) maxima[warp] = value;
    __syncthreads();
    value = maxima[lane < warps ? lane : 0];
  }
  return value;
}

}  // namespace tprun::cuda
