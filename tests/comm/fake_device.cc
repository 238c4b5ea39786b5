#include "tests/comm/fake_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "base/status_macros.h"

namespace tprun {
namespace {

// The addresses of the "device" and where their bytes are.
class Mappings {
 public:
  void Add(char* device, char* bytes, int64_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    mappings_[device] = {bytes, size};
  }
  void Remove(char* device) {
    std::lock_guard<std::mutex> lock(mutex_);
    mappings_.erase(device);
  }
  absl::StatusOr<char*> Find(const void* device, int64_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    const char* address = static_cast<const char*>(device);
    auto mapping = mappings_.upper_bound(const_cast<char*>(address));
    if (mapping == mappings_.begin()) return absl::InternalError("not memory of the device");
    --mapping;
    const int64_t offset = address - mapping->first;
    if (offset + size > mapping->second.size) return absl::InternalError("beyond a buffer's end");
    return mapping->second.bytes + offset;
  }

 private:
  struct Bytes {
    char* bytes;
    int64_t size;
  };
  std::mutex mutex_;
  std::map<char*, Bytes> mappings_;
};

class FakeBuffer final : public Buffer {
 public:
  FakeBuffer(std::shared_ptr<Mappings> mappings, char* device, char* bytes, int64_t size)
      : mappings_(std::move(mappings)), device_(device), bytes_(bytes), size_(size) {
    mappings_->Add(device_, bytes_, size_);
  }
  ~FakeBuffer() override {
    mappings_->Remove(device_);
    munmap(device_, size_ + 1);
    munmap(bytes_, size_ + 1);
  }
  void* data() override { return device_; }
  int64_t size() const override { return size_; }

 private:
  const std::shared_ptr<Mappings> mappings_;
  char* const device_;
  char* const bytes_;
  const int64_t size_;
};

void* Map(int64_t bytes, int protection) {
  return mmap(nullptr, bytes + 1, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

class FakeDevice final : public Device {
 public:
  std::string name() const override { return "fake:0"; }
  bool host_accessible() const override { return false; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    void* device = Map(bytes, PROT_NONE);
    void* memory = Map(bytes, PROT_READ | PROT_WRITE);
    if (device == MAP_FAILED || memory == MAP_FAILED) {
      return absl::ResourceExhaustedError("fake:0: no addresses");
    }
    return std::make_unique<FakeBuffer>(mappings_, static_cast<char*>(device),
                                        static_cast<char*>(memory), bytes);
  }
  absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(char* const bytes_of_to, mappings_->Find(to, bytes));
    std::memcpy(bytes_of_to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const char* const bytes_of_from, mappings_->Find(from, bytes));
    std::memcpy(to, bytes_of_from, bytes);
    return absl::OkStatus();
  }
  absl::Status EnqueueCopy(void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const char* const bytes_of_from, mappings_->Find(from, bytes));
    return CopyFromHost(to, bytes_of_from, bytes);
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> FreeMemory() const override { return int64_t{1} << 30; }

 private:
  const std::shared_ptr<Mappings> mappings_ = std::make_shared<Mappings>();
};

}  // namespace

std::unique_ptr<Device> MakeFakeDevice() { return std::make_unique<FakeDevice>(); }

}  // namespace tprun
