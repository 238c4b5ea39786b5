#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tprun {

// What `tprun topo --measure` and `tprun doctor` want measured on the GPUs; the CUDA module does
// it. GPUs are told apart by PCI bus id, as CUDA's numbers and NVML's differ between unlike cards.

struct ProbedGpu {
  int ordinal = 0;         // CUDA's number in this process
  std::string pci_bus_id;  // as sysfs writes it: "0000:65:00.0"
  std::string name;
};

struct ProbeVersions {
  std::string driver_cuda;  // the newest CUDA the driver can do: "13.0"
  std::string runtime;      // the CUDA the module was built with
  std::string nccl;         // "2.28.3", "" without NCCL
};

// Best of several rounds, per direction; 0: could not be measured.
struct GpuRates {
  double memory_bandwidth_bytes_per_s = 0;         // reading, of a buffer far above the L2 cache
  double host_to_device_bytes_per_s = 0;           // pinned memory
  double device_to_host_bytes_per_s = 0;           // pinned memory
  std::map<std::string, double> matmul_ops_per_s;  // dense, a large square: {"bf16": 7.9e14}
};

// One direction between two GPUs.
struct PeerRates {
  bool possible = false;  // cudaDeviceCanAccessPeer
  // A pattern that differs from word to word was written by a kernel of `from` straight into memory
  // of `to`, and `to` found every word. False with `possible`: silently broken (ACS, IOMMU).
  bool verified = false;
  std::string problem;               // why not: "4096 of 1048576 words differ", CUDA's error
  double bandwidth_bytes_per_s = 0;  // large copies; through the host where peers are not possible
  double latency_s = 0;              // from the store of one side to its sight by the other
};

class DeviceProbe {
 public:
  virtual ~DeviceProbe() = default;
  virtual ProbeVersions versions() const = 0;
  virtual absl::StatusOr<std::vector<ProbedGpu>> Gpus() = 0;
  // Under a second per GPU; frees all it allocated, takes at most 512 MiB of a GPU's memory and
  // less where less is free. ResourceExhausted when there is too little.
  virtual absl::StatusOr<GpuRates> MeasureGpu(int ordinal) = 0;
  // Under half a second per direction. What does not work is in the result; an error means that
  // nothing could be tried.
  virtual absl::StatusOr<PeerRates> MeasurePeer(int from, int to) = 0;
};

// Loads the CUDA module. Unimplemented or FailedPrecondition say in one line why there is none.
absl::StatusOr<std::unique_ptr<DeviceProbe>> OpenDeviceProbe();

}  // namespace tprun
