#include "tests/cuda_emulation/emulated_device.h"

#include <cstdlib>
#include <cstring>

#include "engine/kernels/cuda/make_kernels.h"

namespace tprun {
namespace {

constexpr size_t kAlignment = 256;  // of cudaMalloc

class EmulatedBuffer final : public Buffer {
 public:
  explicit EmulatedBuffer(int64_t bytes) : bytes_(bytes) {
    if (posix_memalign(&data_, kAlignment, bytes > 0 ? bytes : 1) != 0) std::abort();
    // 0xff is NaN; the start is enough to notice, and a large workspace stays untouched.
    std::memset(data_, 0xff, bytes < (1 << 20) ? bytes : 1 << 20);
  }
  ~EmulatedBuffer() override { std::free(data_); }
  void* data() override { return data_; }
  int64_t size() const override { return bytes_; }

 private:
  const int64_t bytes_;
  void* data_ = nullptr;
};

class EmulatedDevice final : public Device {
 public:
  std::string name() const override { return "cuda:emulated"; }
  bool host_accessible() const override { return false; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    return std::make_unique<EmulatedBuffer>(bytes);
  }
  absl::Status CopyFromHost(void* to, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* to, const void* from, int64_t bytes) override {
    return CopyFromHost(to, from, bytes);
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> FreeMemory() const override { return int64_t{1} << 40; }
};

}  // namespace

std::unique_ptr<Device> MakeEmulatedDevice() { return std::make_unique<EmulatedDevice>(); }

std::unique_ptr<Kernels> MakeEmulatedCudaKernels(Device& device, int compute_capability,
                                                 bool fp8_activations) {
  // Few multiprocessors, so that small shapes are cut as large ones are on a GPU.
  cuda::Stream stream;
  stream.multiprocessors = 6;
  stream.compute_capability = compute_capability;
  stream.starts_early = true;
  auto kernels = cuda::MakeKernels(device, stream, fp8_activations);
  return kernels.ok() ? *std::move(kernels) : nullptr;
}

}  // namespace tprun
