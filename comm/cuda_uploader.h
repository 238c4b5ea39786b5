#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "comm/cuda_device.h"

namespace tprun {

// An Uploader with two pinned buffers of `capacity` bytes and a stream of its own.
absl::StatusOr<std::unique_ptr<Uploader>> MakeCudaUploader(CudaDevice& device, int64_t capacity);

}  // namespace tprun
