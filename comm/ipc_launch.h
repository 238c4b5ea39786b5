#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/dtype.h"
#include "comm/ipc_protocol.h"
#include "comm/sum_and_norm.h"

namespace tprun {

// Give the kernels of comm/ipc_kernels.cuh to a stream.

// Makes the kernels ready on the current GPU: loading one while another rank's kernel waits on the
// same GPU could wait for that in turn. Sets how many blocks of any of them a multiprocessor runs
// at once.
cudaError_t PrepareIpcKernels(int* blocks_per_multiprocessor);

cudaError_t LaunchIpcAllReduce(const IpcView& view, const void* send, void* receive, int64_t count,
                               DType dtype, cudaStream_t stream);
cudaError_t LaunchIpcAllReduceNorm(const IpcView& view, const SumAndNorm& what,
                                   cudaStream_t stream);
// sizes and offsets [ranks] in bytes.
cudaError_t LaunchIpcAllGather(const IpcView& view, const void* send, void* receive,
                               const int64_t* sizes, const int64_t* offsets, cudaStream_t stream);
cudaError_t LaunchIpcSend(const IpcView& view, const void* data, int64_t bytes, int to,
                          cudaStream_t stream);
cudaError_t LaunchIpcReceive(const IpcView& view, void* data, int64_t bytes, int from,
                             cudaStream_t stream);

// The pattern that tells whether memory can be trusted.
cudaError_t LaunchWritePattern(void* memory, int64_t bytes, int from, int to, cudaStream_t stream);
cudaError_t LaunchCheckPattern(const void* memory, int64_t bytes, int from, int to, unsigned* wrong,
                               cudaStream_t stream);

}  // namespace tprun
