// The CUDA op set on a GPU, where there is one.

#include "engine/kernels/make_kernels.h"
#include "tests/engine/kernels/host_memory_kernels.h"
#include "tests/engine/kernels/kernels_under_test.h"

#include "base/status_macros.h"

namespace tprun {
namespace {

absl::StatusOr<std::unique_ptr<Kernels>> MakeOnGpu() {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenDevice("cuda:0"));
  ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeKernelsFor(*device, nullptr));
  return MakeHostMemoryKernels(std::move(device), std::move(kernels));
}

}  // namespace

std::vector<Implementation> Implementations() { return {{"cuda", 0, 0, &MakeOnGpu}}; }

}  // namespace tprun
