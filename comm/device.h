#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tprun {

// One allocation on a device, freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;          // on the device
  virtual int64_t size() const = 0;  // bytes
};

// The device of one rank: where its weights, KV cache and workspaces live. The CPU's memory is
// zeroed, aligned to 64 bytes and, when large, backed by huge pages where the system allows it.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu", "cuda:1"
  // True when the host can read and write a Buffer's data() directly.
  virtual bool host_accessible() const = 0;
  // ResourceExhausted names the device, the bytes wanted and the bytes free.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) = 0;
  virtual absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status CopyToHost(void* to, const void* from, int64_t bytes) = 0;
  // Waits for all work given to the device's stream.
  virtual absl::Status Synchronize() = 0;
  virtual absl::StatusOr<int64_t> FreeMemory() const = 0;  // bytes that can still be allocated
};

std::unique_ptr<Device> MakeCpuDevice();

// Opens "cpu" or "cuda:N". InvalidArgument for a malformed name, Unimplemented (with the reason)
// for a kind that this build or machine lacks.
absl::StatusOr<std::unique_ptr<Device>> OpenDevice(absl::string_view name);

}  // namespace tprun
