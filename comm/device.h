#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// One allocation on a device, freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;          // on the device
  virtual int64_t size() const = 0;  // bytes
};

// Work that was recorded once and runs again as a whole: a CUDA graph.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Gives all of it to the device's stream; does not wait.
  virtual absl::Status Launch() = 0;
};

// One thread's way to bring much data to a device: fills one of two staging buffers while the copy
// from the other runs. Runs beside the device's stream: call Finish before that one uses the data.
//
//   ASSIGN_OR_RETURN(auto uploader, device.MakeUploader(4 * kMiB));   // one per thread
//   ASSIGN_OR_RETURN(char* staging, uploader->Stage());
//   RETURN_IF_ERROR(Read(file, staging, bytes));                      // bytes <= capacity
//   RETURN_IF_ERROR(uploader->Upload(weights + offset, bytes));
//   RETURN_IF_ERROR(uploader->Finish());
class Uploader {
 public:
  virtual ~Uploader() = default;
  // Host memory of `capacity` bytes to fill; waits until the copy that used it last has ended.
  virtual absl::StatusOr<char*> Stage() = 0;
  // Begins to copy the first `bytes` bytes of what Stage gave last to `to` on the device.
  virtual absl::Status Upload(void* to, int64_t bytes) = 0;
  // Waits for all copies.
  virtual absl::Status Finish() = 0;
};

// The device of one rank: where its weights, KV cache and workspaces live. The CPU's memory is
// zeroed, aligned to 64 bytes and, when large, backed by huge pages where the system allows it.
//
// Work given to a device runs in order on its one stream (on the CPU: at once, in the calling
// thread). Allocate, MakeUploader, the copies and FreeMemory may be called from any thread, the
// rest from the rank's own.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu", "cuda:1"
  // True when the host can read and write a Buffer's data() directly.
  virtual bool host_accessible() const = 0;
  // ResourceExhausted names the device, the bytes wanted and the bytes free.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) = 0;
  // Return when the host's memory may be changed (from) or read (to).
  virtual absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status CopyToHost(void* to, const void* from, int64_t bytes) = 0;
  // Waits for all work given to the device's stream. While a communicator's work is in it, ends
  // with that communicator's error when a rank is lost.
  virtual absl::Status Synchronize() = 0;
  virtual absl::StatusOr<int64_t> FreeMemory() const = 0;  // bytes that can still be allocated

  // The rest has a default that serves devices whose memory the host reaches.

  // Host memory that copies read and write at full speed (pinned, for a GPU).
  virtual absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(int64_t bytes);
  // Begin a copy on the stream and return. The host's memory is of AllocateHost, and is not touched
  // before a later Synchronize. May be captured: the copy then runs at each Launch.
  virtual absl::Status EnqueueCopyFromHost(void* to, const void* from, int64_t bytes);
  virtual absl::Status EnqueueCopyToHost(void* to, const void* from, int64_t bytes);
  // Within the device, on the stream; returns at once.
  virtual absl::Status EnqueueCopy(void* to, const void* from, int64_t bytes);
  virtual absl::StatusOr<std::unique_ptr<Uploader>> MakeUploader(int64_t capacity);

  // Whether work can be recorded: calls `work` once, which gives work to the stream as usual (and
  // neither waits nor allocates), without running it. All ranks that exchange in it record it;
  // ranks that share a GPU had better meet (Barrier) before the first Launch.
  virtual bool can_capture() const { return false; }
  virtual absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<absl::Status()>& work);

  // Bytes per second, read plus written, of a copy within the device of up to `bytes` bytes (it
  // allocates twice that); the best of some. Unimplemented on the CPU, which has its own measure.
  virtual absl::StatusOr<double> MeasureCopyBandwidth(int64_t bytes);
};

std::unique_ptr<Device> MakeCpuDevice();

// Opens "cpu" or "cuda:N". InvalidArgument for a malformed name, Unimplemented (with the reason)
// for a kind that this build lacks, Unavailable for one that this machine lacks.
absl::StatusOr<std::unique_ptr<Device>> OpenDevice(absl::string_view name);

}  // namespace tprun
