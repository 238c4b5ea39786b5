// The CUDA kernels in the executor, as they are chosen for GPUs with less shared memory.

#include "tests/cuda_emulation/emulated_device.h"
#include "tests/engine/kernels/host_memory_kernels.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

template <int kComputeCapability>
absl::StatusOr<std::unique_ptr<Kernels>> MakeEmulated() {
  std::unique_ptr<Device> device = MakeEmulatedDevice();
  std::unique_ptr<Kernels> kernels = MakeEmulatedCudaKernels(*device, kComputeCapability);
  return MakeHostMemoryKernels(std::move(device), std::move(kernels));
}

}  // namespace

std::vector<Implementation> Implementations() {
  return {{"cuda_emulated_7_5", 0, 0, &MakeEmulated<75>},
          {"cuda_emulated_8_6", 0, 0, &MakeEmulated<86>}};
}

}  // namespace tprun
