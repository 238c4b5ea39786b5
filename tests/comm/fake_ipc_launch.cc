// The launches of the ipc back end for streams of the fake CUDA runtime, which carry out the
// kernels themselves: each block by one thread, one after another.
#include "comm/ipc_kernels.cuh"
#include "comm/ipc_launch.h"
#include "tests/comm/fake_cuda_runtime.h"

namespace tprun {

thread_local EmulatedIndex blockIdx;

namespace {

template <typename Kernel, typename... Arguments>
cudaError_t Launch(cudaStream_t stream, int blocks, Kernel* kernel, Arguments... arguments) {
  GiveToStream(stream, [=] {
    for (int block = 0; block < blocks; ++block) {
      blockIdx.x = block;
      kernel(arguments...);
    }
  });
  return cudaSuccess;
}

}  // namespace

cudaError_t PrepareIpcKernels(int* blocks_per_multiprocessor) {
  return *blocks_per_multiprocessor = 1, cudaSuccess;
}

cudaError_t LaunchIpcAllReduce(const IpcView& view, const void* send, void* receive, int64_t count,
                               DType dtype, cudaStream_t stream) {
  if (dtype != DType::kF32) return cudaErrorNotSupported;
  const int64_t bytes = count * 4;
  const IpcCut cut = CutForIpc(bytes, view.layout.channels, view.layout.chunk_bytes);
  return Launch(stream, cut.channels, IpcAllReduceKernel<float>, view,
                static_cast<const char*>(send), static_cast<char*>(receive), bytes, cut);
}

cudaError_t LaunchIpcAllReduceNorm(const IpcView&, const SumAndNorm&, cudaStream_t) {
  return cudaErrorNotSupported;
}
cudaError_t LaunchIpcAllGather(const IpcView&, const void*, void*, const int64_t*, const int64_t*,
                               cudaStream_t) {
  return cudaErrorNotSupported;
}

cudaError_t LaunchIpcSend(const IpcView& view, const void* data, int64_t bytes, int to,
                          cudaStream_t stream) {
  return Launch(stream, 1, IpcSendKernel, view, static_cast<const char*>(data), bytes, to);
}
cudaError_t LaunchIpcReceive(const IpcView& view, void* data, int64_t bytes, int from,
                             cudaStream_t stream) {
  return Launch(stream, 1, IpcReceiveKernel, view, static_cast<char*>(data), bytes, from);
}

cudaError_t LaunchWritePattern(void* memory, int64_t bytes, int from, int to, cudaStream_t stream) {
  return Launch(stream, 1, IpcWritePatternKernel, static_cast<uint32_t*>(memory), bytes / 4, from,
                to);
}
cudaError_t LaunchCheckPattern(const void* memory, int64_t bytes, int from, int to, unsigned* wrong,
                               cudaStream_t stream) {
  return Launch(stream, 1, IpcCheckPatternKernel, static_cast<const uint32_t*>(memory), bytes / 4,
                from, to, wrong);
}

}  // namespace tprun
