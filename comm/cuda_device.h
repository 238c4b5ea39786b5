#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/device.h"

namespace tprun {

// Something that runs on the device's stream and can get stuck there (an exchange with another
// rank). While the device waits for its stream it asks all watchers now and then.
class StreamWatcher {
 public:
  virtual ~StreamWatcher() = default;
  // Not OK when the work will not end by itself. The watcher has then seen to it that it does end.
  virtual absl::Status Poll() = 0;
  // Called when the wait has ended: an error that the work itself has met.
  virtual absl::Status Finished() = 0;
};

// A GPU and one non-blocking stream on it. Several devices may share a GPU: virtual ranks, in one
// process or several. Only inside the CUDA module; the program sees a Device.
class CudaDevice final : public Device {
 public:
  static absl::StatusOr<std::unique_ptr<Device>> Open(int index);
  ~CudaDevice() override;

  // The CudaDevice that `device` is, which the caller knows; InvalidArgument for another kind.
  static absl::StatusOr<CudaDevice*> Of(Device& device);

  cudaStream_t stream() const { return stream_; }
  int index() const { return index_; }
  int multiprocessors() const { return multiprocessors_; }
  int compute_capability() const { return compute_capability_; }  // 90 for 9.0
  int code_capability() const { return code_capability_; }        // see FindMachineCode
  // Makes the GPU the calling thread's current one; every function here does so itself.
  absl::Status MakeCurrent() const;

  // For the thread that calls Watch first: only that thread asks the watchers.
  void Watch(StreamWatcher* watcher);
  void Unwatch(StreamWatcher* watcher);

  std::string name() const override;
  // "cuda:1 NVIDIA GeForce RTX 3090 (0000:3b:00.0)": its place on the bus tells it from others.
  std::string description() const { return description_; }
  bool host_accessible() const override { return false; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override;
  absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) override;
  absl::Status CopyToHost(void* to, const void* from, int64_t bytes) override;
  absl::Status Synchronize() override;
  absl::StatusOr<int64_t> FreeMemory() const override;
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(int64_t bytes) override;
  absl::Status EnqueueCopyFromHost(void* to, const void* from, int64_t bytes) override;
  absl::Status EnqueueCopyToHost(void* to, const void* from, int64_t bytes) override;
  absl::Status EnqueueCopy(void* to, const void* from, int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<Uploader>> MakeUploader(int64_t capacity) override;
  bool can_capture() const override { return true; }
  absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<absl::Status()>& work) override;
  absl::StatusOr<double> MeasureCopyBandwidth(int64_t bytes) override;

 private:
  // A piece of pinned memory through which small copies pass.
  struct Slot {
    char* data = nullptr;
    cudaEvent_t done = nullptr;  // of the last copy from it
  };
  static constexpr int kSlots = 8;
  static constexpr int64_t kSlotBytes = 64 << 10;
  static constexpr int64_t kBackBytes = 2 << 20;

  explicit CudaDevice(int index) : index_(index) {}
  absl::Status Initialize();
  absl::Status Describe();
  absl::Status Enqueue(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind);
  absl::Status CopySmallFromHost(void* to, const void* from, int64_t bytes);
  absl::Status CopyBeside(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind);
  absl::Status PollWatchers();
  // Asks CUDA by `query` until it says that the work is done, with a look at the watchers.
  template <typename Query>
  absl::Status WaitUntil(const Query& query);
  template <typename Query>
  absl::Status Await(const Query& query, bool watched);
  absl::Status WaitFor(cudaStream_t stream);

  const int index_;
  std::string description_;
  int multiprocessors_ = 0;
  int compute_capability_ = 0;
  int code_capability_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaStream_t copy_stream_ = nullptr;  // for copies that the caller waits for
  std::mutex slots_mutex_;
  std::array<Slot, kSlots> slots_;
  int next_slot_ = 0;
  char* pinned_ = nullptr;  // the slots, then kBackBytes for copies to the host
  std::mutex back_mutex_;   // of the latter
  std::vector<StreamWatcher*> watchers_;
  std::thread::id watching_thread_;
};

}  // namespace tprun
