#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "comm/device.h"
#include "gtest/gtest.h"

// The device of fake_accelerator.h: its memory and its stream.

namespace tprun {

using Work = std::function<absl::Status()>;

// No address of a process has this bit: the host faults there.
inline constexpr uintptr_t kDeviceBit = uintptr_t{1} << 62;

template <class T>
T* OnDevice(T* host) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(host) | kDeviceBit);
}

// Where the device keeps it.
template <class T>
T* Behind(T* device) {
  const auto address = reinterpret_cast<uintptr_t>(device);
  if (device == nullptr) return device;
  EXPECT_NE(address & kDeviceBit, 0u) << "an address of the host where the device's is wanted";
  return reinterpret_cast<T*>(address & ~kDeviceBit);
}

class FakeBuffer final : public Buffer {
 public:
  explicit FakeBuffer(int64_t bytes)
      : bytes_(bytes), memory_(static_cast<char*>(operator new(bytes + 1, kAlignment))) {
    std::memset(memory_, 0xff, bytes);
  }
  ~FakeBuffer() override { operator delete(memory_, kAlignment); }
  void* data() override { return OnDevice(memory_); }
  int64_t size() const override { return bytes_; }

 private:
  static constexpr std::align_val_t kAlignment{256};  // of cudaMalloc
  const int64_t bytes_;
  char* const memory_;
};

class FakeDevice final : public Device {
 public:
  FakeDevice(bool record, std::shared_ptr<std::atomic<int>> launches, absl::Status capture_error)
      : record_(record),
        launches_(std::move(launches)),
        capture_error_(std::move(capture_error)),
        thread_([this] { Run(); }) {}
  ~FakeDevice() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::string name() const override { return "fake:0"; }
  bool host_accessible() const override { return false; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    return std::make_unique<FakeBuffer>(bytes);
  }
  absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) override {
    const auto* begin = static_cast<const char*>(from);
    return Enqueue([to = Behind(to), copy = std::vector<char>(begin, begin + bytes)] {
      if (!copy.empty()) std::memcpy(to, copy.data(), copy.size());
      return absl::OkStatus();
    });
  }
  absl::Status CopyToHost(void* to, const void* from, int64_t bytes) override {
    RETURN_IF_ERROR(EnqueueCopyToHost(to, from, bytes));
    return Synchronize();
  }
  absl::Status EnqueueCopyFromHost(void* to, const void* from, int64_t bytes) override {
    return EnqueueBytes(Behind(to), from, bytes);
  }
  absl::Status EnqueueCopyToHost(void* to, const void* from, int64_t bytes) override {
    return EnqueueBytes(to, Behind(from), bytes);
  }
  absl::Status EnqueueCopy(void* to, const void* from, int64_t bytes) override {
    return EnqueueBytes(Behind(to), Behind(from), bytes);
  }
  absl::Status Synchronize() override {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_EQ(recording_, nullptr) << "a wait in work that is being recorded";
    changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
    return status_;
  }
  absl::StatusOr<int64_t> FreeMemory() const override { return int64_t{1} << 40; }

  bool can_capture() const override { return record_; }
  absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(const Work& work) override {
    auto graph = std::make_unique<Graph>(*this);
    recording_ = &graph->work;
    const absl::Status status = work();
    recording_ = nullptr;
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(capture_error_);
    return graph;
  }

  absl::Status Enqueue(Work work) {
    if (recording_ != nullptr) {
      recording_->push_back(std::move(work));
      return absl::OkStatus();
    }
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(work));
    changed_.notify_all();
    return status_;
  }

 private:
  struct Graph final : public DeviceGraph {
    explicit Graph(FakeDevice& device) : device(device) {}
    absl::Status Launch() override {
      if (device.launches_ != nullptr) ++*device.launches_;
      for (const Work& item : work) RETURN_IF_ERROR(device.Enqueue(item));
      return absl::OkStatus();
    }
    FakeDevice& device;
    std::vector<Work> work;
  };

  absl::Status EnqueueBytes(void* to, const void* from, int64_t bytes) {
    return Enqueue([=] {
      if (bytes > 0) std::memcpy(to, from, bytes);
      return absl::OkStatus();
    });
  }

  // The stream.
  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return !queue_.empty() || ending_; });
      if (queue_.empty()) return;
      const Work work = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      const bool failed = !status_.ok();
      lock.unlock();
      const absl::Status status = failed ? absl::OkStatus() : work();
      lock.lock();
      busy_ = false;
      EXPECT_TRUE(status.ok()) << status;  // the other ranks would only be seen to wait
      status_.Update(status);
      changed_.notify_all();
    }
  }

  const bool record_;
  const std::shared_ptr<std::atomic<int>> launches_;
  const absl::Status capture_error_;
  std::vector<Work>* recording_ = nullptr;  // of the rank's own thread
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  bool busy_ = false;
  bool ending_ = false;
  absl::Status status_;  // of the first work that failed
  std::thread thread_;
};

}  // namespace tprun
