// Every implementation of the op set that needs no GPU.

#include "hwy/targets.h"
#include "tests/cuda_emulation/emulated_device.h"
#include "tests/engine/kernels/host_memory_kernels.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

absl::StatusOr<std::unique_ptr<Kernels>> MakeEmulated() {
  std::unique_ptr<Device> device = MakeEmulatedDevice();
  std::unique_ptr<Kernels> kernels = MakeEmulatedCudaKernels(*device);
  return MakeHostMemoryKernels(std::move(device), std::move(kernels));
}

}  // namespace

// The reference, the CPU with 1 and 3 threads, and with each lesser instruction set of this machine
// that the kernels are compiled for; "baseline" is what the compiler assumes of every machine. The
// CUDA kernels in the executor.
std::vector<Implementation> Implementations() {
  std::vector<Implementation> all = {{"reference", 0, 0}, {"cpu_1", 1, 0}, {"cpu_3", 3, 0}};
  if ((hwy::SupportedTargets() & HWY_AVX3) != 0) {
    all.push_back({"cpu_2_AVX3_without_dots", 2, HWY_AVX3, nullptr, /*without_dots=*/true});
  }
  for (int64_t target : {int64_t{HWY_AVX2}, int64_t{HWY_SSE4}}) {
    const bool supported = (hwy::SupportedTargets() & target) != 0;
    if (supported) all.push_back({std::string("cpu_2_") + hwy::TargetName(target), 2, target});
  }
  all.push_back({"cpu_2_baseline", 2, HWY_SCALAR});
  all.push_back({"cuda_emulated", 0, 0, &MakeEmulated});
  return all;
}

}  // namespace tprun
