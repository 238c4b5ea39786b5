#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// The op set that works on the memory of `device`: MakeCpuKernels(pool, activations) where the host
// reaches it, else that of the CUDA module, whose error it is when there is none. Device and pool
// outlive the kernels. `declared_fp8`: the checkpoint says that activations are fp8 where they meet
// its weights.
absl::StatusOr<std::unique_ptr<Kernels>> MakeKernelsFor(Device& device, ThreadPool* pool,
                                                        Activations activations = Activations::kF32,
                                                        bool declared_fp8 = false);

// Whether GPU ranks may round activations to fp8 beside fp8 weights: where the checkpoint is meant
// so, or its user accepts activations of 8 bits.
inline bool Fp8Activations(Activations activations, bool declared_fp8) {
  return activations == Activations::kInt8 || (declared_fp8 && activations != Activations::kF32);
}

}  // namespace tprun
