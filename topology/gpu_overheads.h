#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "topology/topology.h"

namespace tprun {

// Device memory that CUDA and NCCL take for themselves; the keys are explained in
// clusters/devices/overheads.yaml.
struct GpuOverheads {
  std::string device;              // "": any
  std::string compute_capability;  // "": any
  int64_t context_bytes = 0;
  int64_t nccl_base_bytes = 0;
  int64_t nccl_channel_bytes = 0;
  std::string date;
  std::string source;
  std::string doubt;
  std::string measured;  // which of them were measured on this very card, and when; "": none
};

// A file such as clusters/devices/overheads.yaml. InvalidArgument has the line.
absl::StatusOr<std::vector<GpuOverheads>> ReadGpuOverheads(const std::string& path);

// The first of `all` that is for this GPU; all zero when there is none.
GpuOverheads OverheadsOfGpu(const std::vector<GpuOverheads>& all, const DeviceInfo& gpu);

// What was measured of this card, the rest of clusters/devices/overheads.yaml, which is read once.
// Where it cannot be read that is zero, and `source` says why.
GpuOverheads OverheadsOfGpu(const DeviceInfo& gpu);

}  // namespace tprun
