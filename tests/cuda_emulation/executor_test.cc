#include "tests/cuda_emulation/executor.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <string>
#include <vector>

#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/launch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_emulation/shared_of_header.h"

namespace tprun::cuda {
namespace {

using ::testing::HasSubstr;

cudaError_t RunKernel(dim3 blocks, dim3 threads, size_t shared_bytes, void (*kernel)(int*),
                      int* data) {
  return Launch(Stream(), {blocks, threads, shared_bytes}, kernel, data);
}

std::string FailureOf(dim3 blocks, dim3 threads, void (*kernel)(int*), int* data) {
  const cudaError_t error = RunKernel(blocks, threads, 0, kernel, data);
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

__global__ void NumberThreads(int* out) {
  const int in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + in_block] += 1 + in_block + 1000 * block;
}

TEST(ExecutorTest, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> out(2 * 3 * 2 * 24, 0);
  ASSERT_EQ(RunKernel(dim3(2, 3, 2), dim3(4, 3, 2), 0, &NumberThreads, out.data()), cudaSuccess);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], 1 + i % 24 + 1000 * (i / 24));
}

// Reverses through static and dynamic shared memory.
__global__ void Reverse(int* data) {
  __shared__ int fixed[64];
  int* dynamic = DynamicShared<int>();
  fixed[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  dynamic[threadIdx.x] = fixed[63 - threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = dynamic[threadIdx.x] * 10 + (dynamic[63 - threadIdx.x] == fixed[threadIdx.x]);
}

TEST(ExecutorTest, SharedMemoryAndBarriers) {
  std::vector<int> data(64);
  for (int i = 0; i < 64; ++i) data[i] = i;
  ASSERT_EQ(RunKernel(1, 64, 64 * sizeof(int), &Reverse, data.data()), cudaSuccess);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(data[i], (63 - i) * 10 + 1);
}

__global__ void SharedStartsAsNan(int* out) {
  __shared__ int words[5];
  for (int* word : {DynamicShared<int>() + 3, words + 4, SharedOfHeader() + 1}) {
    *out += *word == -1;
    *word = 0;
  }
}

TEST(ExecutorTest, SharedMemoryIsFreshInEveryBlock) {
  int count = 0;
  ASSERT_EQ(RunKernel(5, 1, 16, &SharedStartsAsNan, &count), cudaSuccess);
  EXPECT_EQ(count, 3 * 5);
}

__global__ void WarpOperations(int* out) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = lane + 100 * warp;
  for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bits);
  const int down = __shfl_down_sync(0xffffffffu, lane, 3, 8);
  const int from = __shfl_sync(0xffffffffu, 7 * lane, 5);
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  __syncwarp();
  const bool right = sum == 496 + 3200 * warp && down == (lane % 8 < 5 ? lane + 3 : lane) &&
                     from == 35 && odd == 0xaaaaaaaau && __any_sync(0xffffffffu, lane == 9) &&
                     !__all_sync(0xffffffffu, lane == 9);
  atomicAdd(out, right ? 1 : 0);
}

TEST(ExecutorTest, WarpOperations) {
  int right = 0;
  ASSERT_EQ(RunKernel(3, 96, 0, &WarpOperations, &right), cudaSuccess);
  EXPECT_EQ(right, 3 * 96);
}

__global__ void SomeLeaveBeforeTheBarrier(int*) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
__global__ void WarpsAtDifferentPlaces(int*) {
  if (threadIdx.x < 32) __syncthreads();
  if (threadIdx.x == 33) __syncwarp();
}
__global__ void LanesAtDifferentOperations(int* out) {
  if (threadIdx.x % 2 == 0) {
    __syncwarp();
  } else {
    *out = __any_sync(0xffffffffu, 1);
  }
}
__global__ void HalfAWarp(int* out) { *out = __shfl_sync(0xffffu, 1, 0); }

TEST(ExecutorTest, FindsThreadsThatWaitInVain) {
  int out = 0;
  EXPECT_THAT(FailureOf(2, 64, &SomeLeaveBeforeTheBarrier, &out),
              HasSubstr("block (0, 0, 0): 40 of 64 threads wait at __syncthreads, 24 have"));
  EXPECT_THAT(FailureOf(1, 64, &WarpsAtDifferentPlaces, &out),
              HasSubstr("1 lanes of warp 1 wait at __syncwarp"));
  EXPECT_THAT(FailureOf(1, 32, &LanesAtDifferentOperations, &out),
              HasSubstr("__ballot_sync, other lanes of the warp at __syncwarp"));
  EXPECT_THAT(FailureOf(1, 32, &HalfAWarp, &out), HasSubstr("some lanes only"));
  EXPECT_THAT(FailureOf(1, 8, &LanesAtDifferentOperations, &out), HasSubstr("without whole warps"));
  // And goes on as if nothing had been.
  std::vector<int> data(64, 1);
  EXPECT_EQ(RunKernel(1, 64, 64 * sizeof(int), &Reverse, data.data()), cudaSuccess);
}

// Thread i reads what thread i + 1 writes: right by chance in one order of the threads only.
__global__ void MissingBarrier(int* out) {
  __shared__ int values[65];
  values[threadIdx.x] = 1 + static_cast<int>(blockIdx.x);
  if (threadIdx.x < 63) {
    atomicAdd(out, values[threadIdx.x + 1] == 1 + static_cast<int>(blockIdx.x) ? 1 : 0);
  }
}

TEST(ExecutorTest, OrderOfThreadsChangesFromBlockToBlock) {
  int right = 0;
  ASSERT_EQ(RunKernel(2, 64, 0, &MissingBarrier, &right), cudaSuccess);
  EXPECT_EQ(right, 63);  // all of the reversed block, none of the other
}

// A warp that is ahead writes what the other has not read yet: right by chance where warps take
// turns at every operation.
__global__ void MissingSecondBarrier(int* wrong) {
  __shared__ int values[64];
  for (int round = 1; round <= 2; ++round) {
    values[threadIdx.x] = round;
    __syncthreads();
    const int other = values[threadIdx.x ^ 32];
    __shfl_xor_sync(0xffffffffu, round, 1);
    if (other != round) atomicAdd(wrong, 1);
  }
}

TEST(ExecutorTest, AWarpGoesAsFarAsItCan) {
  int wrong = 0;
  ASSERT_EQ(RunKernel(1, 64, 0, &MissingSecondBarrier, &wrong), cudaSuccess);
  EXPECT_EQ(wrong, 32);  // all of the second warp, in the first round
}

TEST(ExecutorTest, OrderOfThreadsChangesFromGridToGrid) {
  int right = 0;
  for (int grid = 0; grid < 2; ++grid) {
    ASSERT_EQ(RunKernel(1, 64, 0, &MissingBarrier, &right), cudaSuccess);
  }
  EXPECT_EQ(right, 63);
}

__global__ void NoteFirstBlock(int* out) {
  if (atomicAdd(out, 1) % 3 == 0) out[1 + blockIdx.x] += 1;
}

TEST(ExecutorTest, OrderOfBlocksChangesFromGridToGrid) {
  int data[4] = {};
  for (int grid = 0; grid < 4; ++grid) {
    ASSERT_EQ(RunKernel(3, 1, 0, &NoteFirstBlock, data), cudaSuccess);
  }
  EXPECT_THAT(data, ::testing::ElementsAre(12, 2, 0, 2));
}

// The last block of a grid sees what all wrote: sums across blocks.
__global__ void LastBlock(int* data) {
  __shared__ bool last;
  if (threadIdx.x == 0) last = atomicAdd(data, 1) == static_cast<int>(gridDim.x) - 1;
  __syncthreads();
  if (last) atomicAdd(data + 1, 1);
}

TEST(ExecutorTest, BlocksRunOneAfterAnother) {
  int data[2] = {};
  ASSERT_EQ(RunKernel(7, 32, 0, &LastBlock, data), cudaSuccess);
  EXPECT_EQ(data[1], 32);
}

__global__ void Nothing(int*) {}

TEST(ExecutorTest, RefusesWhatTheDriverWould) {
  int out = 0;
  EXPECT_EQ(RunKernel(0, 32, 0, &Nothing, &out), cudaErrorInvalidConfiguration);
  EXPECT_EQ(RunKernel(dim3(1, 70000), 32, 0, &Nothing, &out), cudaErrorInvalidConfiguration);
  EXPECT_EQ(RunKernel(1, 1025, 0, &Nothing, &out), cudaErrorLaunchFailure);
  EXPECT_EQ(RunKernel(1, 32, 228 << 10, &Nothing, &out), cudaErrorInvalidValue);
  EXPECT_EQ(RunKernel(1, 1024, 200 << 10, &Nothing, &out), cudaSuccess);
}

__global__ void NothingEither(int*) {}

TEST(ExecutorTest, LaunchAsksForSharedMemoryBesideStaticOne) {
  int out = 0;
  cudaLaunchConfig_t config = {};
  config.dynamicSmemBytes = (48 << 10) - 16;
  EXPECT_EQ(cudaLaunchKernelEx(&config, &NothingEither, &out), cudaErrorInvalidValue);
  EXPECT_EQ(RunKernel(1, 1, config.dynamicSmemBytes, &NothingEither, &out), cudaSuccess);
}

TEST(ExecutorTest, KernelsStartEarlyWhereTheyWait) {
  EXPECT_TRUE(MayStartEarly(90, 90, 12030));
  EXPECT_TRUE(MayStartEarly(120, 90, 13000)) << "9.0's PTX on a newer GPU";
  EXPECT_FALSE(MayStartEarly(90, 80, 13000)) << "older PTX has no wait";
  EXPECT_FALSE(MayStartEarly(120, 86, 13000));
  EXPECT_FALSE(MayStartEarly(89, 89, 13000));
  EXPECT_FALSE(MayStartEarly(90, 90, 12020)) << "graphs do not record it";
  int out = 0;
  for (const bool early : {true, false}) {
    Stream stream;
    stream.compute_capability = 90;
    stream.starts_early = early;
    ASSERT_EQ(Launch(stream, {1, 1}, &Nothing, &out), cudaSuccess);
    EXPECT_EQ(cuda_emulation::LastLaunchStartedEarly(), early);
  }
}

// The tile's layout of PTX: each lane's share of a 16 x 16 by 16 x 8 product of small integers.
__global__ void MultiplyTile(int* out) {
  const int lane = threadIdx.x, g = lane / 4, q = lane % 4;
  const auto a_of = [](int row, int k) { return static_cast<float>((row * 3 + k * 5) % 7 - 3); };
  const auto b_of = [](int k, int column) { return static_cast<float>((k + 2 * column) % 5 - 2); };
  const auto pack = [](float low, float high) {
    return (__float_as_uint(high) & 0xffff0000u) | __float_as_uint(low) >> 16;
  };
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) {
    const int row = g + i % 2 * 8, k = 2 * q + i / 2 * 8;
    a[i] = pack(a_of(row, k), a_of(row, k + 1));
  }
  for (int i = 0; i < 2; ++i) {
    const int k = 2 * q + i * 8;
    b[i] = pack(b_of(k, g), b_of(k + 1, g));
  }
  float d[4] = {1, 1, 1, 1};
  MultiplyAddBf16(d, a, b);
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * q + i % 2;
    float sum = 1;
    for (int k = 0; k < 16; ++k) sum += a_of(row, k) * b_of(k, column);
    atomicAdd(out, sum == d[i] ? 1 : 0);
  }
}

TEST(ExecutorTest, Tiles) {
  int right = 0;
  ASSERT_EQ(RunKernel(1, 32, 0, &MultiplyTile, &right), cudaSuccess);
  EXPECT_EQ(right, 128);
}

}  // namespace
}  // namespace tprun::cuda
