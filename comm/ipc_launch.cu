#include "comm/ipc_launch.h"

#include <algorithm>
#include <limits>

#include "comm/ipc_kernels.cuh"

namespace tprun {
namespace {

// Enough to keep NVLink busy with one chunk; few enough that many ranks' kernels fit on one GPU.
constexpr int kThreads = kMostIpcThreads;

template <typename Kernel>
cudaError_t Prepare(Kernel* kernel, int* least_blocks) {
  int blocks = 0;
  const cudaError_t error =
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, 0);
  *least_blocks = std::min(*least_blocks, blocks);
  return error;
}

}  // namespace

cudaError_t PrepareIpcKernels(int* blocks_per_multiprocessor) {
  int* const least = blocks_per_multiprocessor;
  *least = std::numeric_limits<int>::max();
  for (const cudaError_t error :
       {Prepare(IpcAllReduceKernel<float>, least), Prepare(IpcAllReduceKernel<HalfBits>, least),
        Prepare(IpcAllReduceKernel<Bf16Bits>, least), Prepare(IpcAllReduceNormKernel, least),
        Prepare(IpcAllGatherKernel, least), Prepare(IpcSendKernel, least),
        Prepare(IpcReceiveKernel, least)}) {
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t LaunchIpcAllReduce(const IpcView& view, const void* send, void* receive, int64_t count,
                               DType dtype, cudaStream_t stream) {
  const int64_t bytes = count * static_cast<int64_t>(dtype == DType::kF32 ? 4 : 2);
  const IpcCut cut = CutForIpc(bytes, view.layout.channels, view.layout.chunk_bytes);
  auto* kernel = dtype == DType::kF32   ? IpcAllReduceKernel<float>
                 : dtype == DType::kF16 ? IpcAllReduceKernel<HalfBits>
                                        : IpcAllReduceKernel<Bf16Bits>;
  kernel<<<cut.channels, kThreads, 0, stream>>>(view, static_cast<const char*>(send),
                                                static_cast<char*>(receive), bytes, cut);
  return cudaGetLastError();
}

cudaError_t LaunchIpcAllReduceNorm(const IpcView& view, const SumAndNorm& what,
                                   cudaStream_t stream) {
  const int channels = static_cast<int>(std::min<int64_t>(what.tokens, view.layout.channels));
  IpcAllReduceNormKernel<<<channels, kThreads, 0, stream>>>(view, what, channels);
  return cudaGetLastError();
}

cudaError_t LaunchIpcAllGather(const IpcView& view, const void* send, void* receive,
                               const int64_t* sizes, const int64_t* offsets, cudaStream_t stream) {
  IpcParts parts = {};
  std::copy_n(sizes, view.layout.ranks, parts.sizes);
  std::copy_n(offsets, view.layout.ranks, parts.offsets);
  const int64_t largest = *std::max_element(sizes, sizes + view.layout.ranks);
  const IpcCut cut = CutForIpc(largest, view.layout.channels, view.layout.chunk_bytes);
  IpcAllGatherKernel<<<cut.channels, kThreads, 0, stream>>>(
      view, static_cast<const char*>(send), static_cast<char*>(receive), parts, cut);
  return cudaGetLastError();
}

cudaError_t LaunchIpcSend(const IpcView& view, const void* data, int64_t bytes, int to,
                          cudaStream_t stream) {
  IpcSendKernel<<<1, kThreads, 0, stream>>>(view, static_cast<const char*>(data), bytes, to);
  return cudaGetLastError();
}

cudaError_t LaunchIpcReceive(const IpcView& view, void* data, int64_t bytes, int from,
                             cudaStream_t stream) {
  IpcReceiveKernel<<<1, kThreads, 0, stream>>>(view, static_cast<char*>(data), bytes, from);
  return cudaGetLastError();
}

cudaError_t LaunchWritePattern(void* memory, int64_t bytes, int from, int to, cudaStream_t stream) {
  IpcWritePatternKernel<<<64, 256, 0, stream>>>(static_cast<uint32_t*>(memory), bytes / 4, from,
                                                to);
  return cudaGetLastError();
}

cudaError_t LaunchCheckPattern(const void* memory, int64_t bytes, int from, int to, unsigned* wrong,
                               cudaStream_t stream) {
  IpcCheckPatternKernel<<<64, 256, 0, stream>>>(static_cast<const uint32_t*>(memory), bytes / 4,
                                                from, to, wrong);
  return cudaGetLastError();
}

}  // namespace tprun
