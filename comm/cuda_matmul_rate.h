#pragma once

#include "absl/status/statusor.h"
#include "comm/cuda_device.h"

namespace tprun {

// Operations per second of a dense bf16 product of two square matrices through cuBLASLt, sums in
// f32; the best of some. Takes about 200 MiB. Unimplemented where the GPU has no bf16.
absl::StatusOr<double> MeasureBf16MatMul(CudaDevice& device);

}  // namespace tprun
