// The entry of libtprun_cuda.so: what comm/ makes, and the kernels.

#include "comm/cuda_module.h"

#include <algorithm>

#include "base/status_macros.h"
#include "comm/cuda_device.h"
#include "comm/cuda_error.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/make_kernels.h"
#include "engine/kernels/cuda_kernels.h"

namespace tprun {

absl::StatusOr<std::unique_ptr<Kernels>> MakeCudaKernels(Device& device, bool fp8_activations) {
  ASSIGN_OR_RETURN(CudaDevice * cuda_device, CudaDevice::Of(device));
  RETURN_IF_ERROR(cuda_device->MakeCurrent());
  cuda::Stream stream;
  stream.stream = cuda_device->stream();
  stream.multiprocessors = cuda_device->multiprocessors();
  stream.compute_capability = cuda_device->compute_capability();
  int driver = 0;
  CUDA_RETURN_IF_ERROR(cudaDriverGetVersion(&driver));
  stream.starts_early = cuda::MayStartEarly(
      stream.compute_capability, cuda_device->code_capability(), std::min(driver, CUDART_VERSION));
  return cuda::MakeKernels(device, stream, fp8_activations);
}

namespace {

CudaModule MakeModule() {
  CudaModule module = CudaModuleOfComm();
  module.make_kernels = MakeCudaKernels;
  return module;
}

}  // namespace
}  // namespace tprun

extern "C" __attribute__((visibility("default"))) const tprun::CudaModule* TprunCudaModule() {
  static const tprun::CudaModule module = tprun::MakeModule();
  return &module;
}
