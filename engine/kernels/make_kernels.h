#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// The op set that works on the memory of `device`: MakeCpuKernels(pool, activations) where the host
// reaches it, else that of the CUDA module, whose error it is when there is none. Device and pool
// outlive the kernels.
absl::StatusOr<std::unique_ptr<Kernels>> MakeKernelsFor(
    Device& device, ThreadPool* pool, Activations activations = Activations::kF32);

}  // namespace tprun
