#include "comm/device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/available_memory.h"
#include "comm/cuda_module.h"

namespace tprun {
namespace {

constexpr int64_t kPage = 4 * kKiB;
constexpr int64_t kHugePage = 2 * kMiB;

int64_t RoundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Memory is committed by the first touch, so what was allocated but not touched yet is still "free"
// to the system. The account remembers it: never more is given away than was free at the first
// allocation. Thread-safe.
class MemoryAccount {
 public:
  absl::StatusOr<int64_t> Free() {
    std::lock_guard<std::mutex> lock(mutex_);
    return FreeLocked();
  }

  // Takes `bytes` for a buffer of `wanted` bytes.
  absl::Status Take(int64_t bytes, int64_t wanted) {
    std::lock_guard<std::mutex> lock(mutex_);
    ASSIGN_OR_RETURN(const int64_t free, FreeLocked());
    if (bytes > free) {
      return absl::ResourceExhaustedError(absl::StrCat("cpu: wanted ", FormatBytes(wanted), " (",
                                                       wanted, " bytes), ", FormatBytes(free), " (",
                                                       free, " bytes) are free"));
    }
    taken_ += bytes;
    return absl::OkStatus();
  }

  void Return(int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    taken_ -= bytes;
  }

 private:
  absl::StatusOr<int64_t> FreeLocked() {
    ASSIGN_OR_RETURN(const int64_t available, AvailableMemory());
    if (taken_ == 0) at_first_ = available;
    return std::max<int64_t>(0, std::min(available, at_first_ - taken_));
  }

  std::mutex mutex_;
  int64_t taken_ = 0;
  int64_t at_first_ = 0;
};

// Owns an anonymous mapping and its entry in the account.
class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(std::shared_ptr<MemoryAccount> account, void* data, int64_t size, int64_t mapped)
      : account_(std::move(account)), data_(data), size_(size), mapped_(mapped) {}
  ~CpuBuffer() override {
    munmap(data_, mapped_);
    account_->Return(mapped_);
  }
  void* data() override { return data_; }
  int64_t size() const override { return size_; }

 private:
  const std::shared_ptr<MemoryAccount> account_;
  void* const data_;
  const int64_t size_;
  const int64_t mapped_;
};

// Zeroed memory of `bytes` bytes (a multiple of `alignment`), or MAP_FAILED with errno.
void* MapAligned(int64_t bytes, int64_t alignment) {
  const int64_t slack = alignment > kPage ? alignment : 0;
  void* mapped = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      /*fd=*/-1, /*offset=*/0);
  if (mapped == MAP_FAILED || slack == 0) return mapped;
  char* const begin = static_cast<char*>(mapped);
  const int64_t before = (alignment - reinterpret_cast<uintptr_t>(begin) % alignment) % alignment;
  if (before > 0) munmap(begin, before);
  if (slack > before) munmap(begin + before + bytes, slack - before);
  // Only a wish: without huge pages reading the weights is about a tenth slower.
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

absl::Status CheckCopy(const void* to, const void* from, int64_t bytes) {
  if (bytes < 0 || (bytes > 0 && (to == nullptr || from == nullptr))) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu: a copy of ", bytes, " bytes with a null or negative argument"));
  }
  return absl::OkStatus();
}

class CpuDevice final : public Device {
 public:
  std::string name() const override { return "cpu"; }
  bool host_accessible() const override { return true; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override;
  absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) override {
    RETURN_IF_ERROR(CheckCopy(to, from, bytes));
    if (bytes > 0) std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* to, const void* from, int64_t bytes) override {
    return CopyFromHost(to, from, bytes);
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> FreeMemory() const override { return account_->Free(); }

 private:
  const std::shared_ptr<MemoryAccount> account_ = std::make_shared<MemoryAccount>();
};

absl::StatusOr<std::unique_ptr<Buffer>> CpuDevice::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu: wanted a buffer of 0 or more bytes, found ", bytes));
  }
  if (bytes > std::numeric_limits<int64_t>::max() / 2) return account_->Take(bytes, bytes);
  const int64_t alignment = bytes >= kHugePage ? kHugePage : kPage;
  const int64_t mapped = RoundUp(std::max<int64_t>(bytes, 1), alignment);
  RETURN_IF_ERROR(account_->Take(mapped, bytes));
  void* data = MapAligned(mapped, alignment);
  if (data == MAP_FAILED) {
    const int error = errno;
    account_->Return(mapped);
    return absl::ResourceExhaustedError(absl::StrCat("cpu: the system refused ",
                                                     FormatBytes(mapped), " (", mapped,
                                                     " bytes): ", std::strerror(error)));
  }
  return std::make_unique<CpuBuffer>(account_, data, bytes, mapped);
}

absl::StatusOr<const CudaModule*> CudaModuleFor(absl::string_view name) {
  absl::StatusOr<const CudaModule*> module = LoadCudaModule();
  if (module.ok()) return module;
  return Annotate(module.status(), absl::StrCat("device \"", name, "\""));
}

}  // namespace

std::unique_ptr<Device> MakeCpuDevice() { return std::make_unique<CpuDevice>(); }

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(absl::string_view name) {
  if (name == "cpu") return MakeCpuDevice();
  absl::string_view index = name;
  int number;
  if (absl::ConsumePrefix(&index, "cuda:") && !index.empty() &&
      index.find_first_not_of("0123456789") == index.npos && absl::SimpleAtoi(index, &number)) {
    ASSIGN_OR_RETURN(const CudaModule* module, CudaModuleFor(name));
    return module->open_device(number);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("device \"", name, "\": wanted \"cpu\" or \"cuda:N\" (N = 0, 1, ...)"));
}

}  // namespace tprun
