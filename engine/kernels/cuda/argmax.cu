#include "engine/kernels/cuda/best.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"

namespace tprun::cuda {
namespace {

constexpr int kThreads = 1024;

__global__ void __launch_bounds__(kThreads)
    ArgMaxKernel(const float* x, int64_t columns, int32_t first_id, Best* best) {
  __shared__ Best of_warp[kThreads / 32];
  LetNextKernelStart();
  WaitForPreviousKernel();
  const float* row = x + blockIdx.x * columns;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Best mine = {0, -1};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) {
    const float value = row[i];
    if (IsFinite(value) && (mine.id < 0 || value > mine.logit)) {
      mine = {value, static_cast<int32_t>(first_id + i)};
    }
  }
  mine = BestOfWarp(mine);
  if (lane == 0) of_warp[warp] = mine;
  __syncthreads();
  if (warp != 0) return;
  mine = BestOfWarp(of_warp[lane]);
  if (lane == 0) best[blockIdx.x] = mine;
}

}  // namespace

cudaError_t ArgMax(const Stream& stream, const float* x, int64_t rows, int64_t columns,
                   int32_t first_id, Best* best) {
  const Grid grid = {dim3(static_cast<unsigned>(rows)), dim3(kThreads)};
  return Launch(stream, grid, &ArgMaxKernel, x, columns, first_id, best);
}

}  // namespace tprun::cuda
