// What Device does by default: right for memory that the host reaches.
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/device.h"

namespace tprun {
namespace {

class HostBuffer final : public Buffer {
 public:
  HostBuffer(int64_t bytes, char* data) : bytes_(bytes), data_(data) {}
  void* data() override { return data_.get(); }
  int64_t size() const override { return bytes_; }

 private:
  const int64_t bytes_;
  const std::unique_ptr<char[]> data_;
};

// Copies at once: no second buffer is needed.
class PlainUploader final : public Uploader {
 public:
  PlainUploader(Device& device, std::unique_ptr<Buffer> staging)
      : device_(device), staging_(std::move(staging)) {}
  absl::StatusOr<char*> Stage() override { return static_cast<char*>(staging_->data()); }
  absl::Status Upload(void* to, int64_t bytes) override {
    if (bytes > staging_->size()) return absl::InvalidArgumentError("more than the staging buffer");
    return device_.CopyFromHost(to, staging_->data(), bytes);
  }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  Device& device_;
  const std::unique_ptr<Buffer> staging_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Buffer>> Device::AllocateHost(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), ": wanted a buffer of 0 or more bytes, found ", bytes));
  }
  char* data = new (std::nothrow) char[bytes + 1]();
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name(), ": the host has no ", FormatBytes(bytes), " left"));
  }
  return std::make_unique<HostBuffer>(bytes, data);
}

absl::Status Device::EnqueueCopyFromHost(void* to, const void* from, int64_t bytes) {
  return CopyFromHost(to, from, bytes);
}

absl::Status Device::EnqueueCopyToHost(void* to, const void* from, int64_t bytes) {
  return CopyToHost(to, from, bytes);
}

absl::Status Device::EnqueueCopy(void* to, const void* from, int64_t bytes) {
  if (!host_accessible()) return absl::UnimplementedError(name() + ": no copies within the device");
  return CopyFromHost(to, from, bytes);
}

absl::StatusOr<std::unique_ptr<Uploader>> Device::MakeUploader(int64_t capacity) {
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> staging, AllocateHost(capacity));
  return std::make_unique<PlainUploader>(*this, std::move(staging));
}

absl::StatusOr<std::unique_ptr<DeviceGraph>> Device::Capture(const std::function<absl::Status()>&) {
  return absl::UnimplementedError(name() + ": work cannot be recorded on this device");
}

absl::StatusOr<double> Device::MeasureCopyBandwidth(int64_t) {
  return absl::UnimplementedError(name() + ": has no copies within the device to measure");
}

}  // namespace tprun
