#include "comm/cuda_device.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/cuda_error.h"
#include "comm/cuda_graph.h"
#include "comm/cuda_probe.h"
#include "comm/cuda_timer.h"
#include "comm/cuda_uploader.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

using Clock = std::chrono::steady_clock;

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(int index, void* data, int64_t size) : index_(index), data_(data), size_(size) {}
  ~CudaBuffer() override {
    cudaSetDevice(index_);
    cudaFree(data_);
  }
  void* data() override { return data_; }
  int64_t size() const override { return size_; }

 private:
  const int index_;
  void* const data_;
  const int64_t size_;
};

class PinnedBuffer final : public Buffer {
 public:
  PinnedBuffer(void* data, int64_t size) : data_(data), size_(size) {}
  ~PinnedBuffer() override { cudaFreeHost(data_); }
  void* data() override { return data_; }
  int64_t size() const override { return size_; }

 private:
  void* const data_;
  const int64_t size_;
};

absl::StatusOr<int> CountGpus() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (error == cudaErrorInsufficientDriver && driver == 0) {
    return absl::UnavailableError(
        "no NVIDIA driver was found (libcuda.so.1): install it, or in a container start that with "
        "the GPUs given to it");
  }
  if (error == cudaErrorInsufficientDriver) {
    return absl::UnavailableError(absl::StrCat("the NVIDIA driver is too old: it serves CUDA ",
                                               driver / 1000, ".", driver % 1000 / 10, ", wanted ",
                                               CUDART_VERSION / 1000, ".",
                                               CUDART_VERSION % 1000 / 10, ": update the driver"));
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return absl::UnavailableError(
        "the NVIDIA driver shows no GPU (see nvidia-smi, and CUDA_VISIBLE_DEVICES if set)");
  }
  if (error != cudaSuccess) {
    return absl::UnavailableError(absl::StrCat("CUDA does not start: ", cudaGetErrorString(error),
                                               " (", cudaGetErrorName(error), ")"));
  }
  return count;
}

absl::Status CheckBytes(absl::string_view device, const void* to, const void* from, int64_t bytes) {
  if (bytes < 0 || (bytes > 0 && (to == nullptr || from == nullptr))) {
    return absl::InvalidArgumentError(
        absl::StrCat(device, ": a copy of ", bytes, " bytes with a null or negative argument"));
  }
  return absl::OkStatus();
}

// How a wait for the GPU spends its time: a step of decode ends within milliseconds, and sleeping
// would add its granularity to each.
void Pause(Clock::duration waited) {
  if (waited < std::chrono::microseconds(200)) {
    SpinPause();
  } else if (waited < std::chrono::milliseconds(20)) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CudaDevice::Open(int index) {
  const std::string name = absl::StrCat("cuda:", index);
  const absl::StatusOr<int> count = CountGpus();
  if (!count.ok()) return Annotate(count.status(), name);
  if (index < 0 || index >= *count) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": there ", *count == 1 ? "is 1 GPU, cuda:0" : absl::StrCat("are ", *count, " GPUs"),
        *count == 1 ? "" : absl::StrCat(", cuda:0 to cuda:", *count - 1)));
  }
  std::unique_ptr<CudaDevice> device(new CudaDevice(index));
  const absl::Status status = device->Initialize();
  if (!status.ok()) return Annotate(status, name);
  return device;
}

absl::Status CudaDevice::Initialize() {
  RETURN_IF_ERROR(MakeCurrent());
  int major, minor;
  CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index_));
  CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index_));
  compute_capability_ = 10 * major + minor;
  CUDA_RETURN_IF_ERROR(
      cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, index_));
  if (FindMachineCode(&code_capability_) != cudaSuccess) {
    cudaGetLastError();
    return absl::UnimplementedError(
        absl::StrCat("the GPU has compute capability ", major, ".", minor,
                     ", for which this build has no machine code (" TPRUN_CUDA_ARCHITECTURES
                     "): build with -DTPRUN_CUDA_ARCHITECTURES=",
                     compute_capability_));
  }
  RETURN_IF_ERROR(Describe());
  CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&copy_stream_, cudaStreamNonBlocking));
  void* pinned = nullptr;
  CUDA_RETURN_IF_ERROR(cudaMallocHost(&pinned, kSlots * kSlotBytes + kBackBytes));
  pinned_ = static_cast<char*>(pinned);
  for (int i = 0; i < kSlots; ++i) {
    slots_[i].data = pinned_ + i * kSlotBytes;
    CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&slots_[i].done, cudaEventDisableTiming));
  }
  return absl::OkStatus();
}

absl::Status CudaDevice::Describe() {
  cudaDeviceProp properties;
  CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, index_));
  char bus_id[32] = {};
  CUDA_RETURN_IF_ERROR(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), index_));
  description_ =
      absl::StrCat(name(), " ", properties.name, " (", absl::AsciiStrToLower(bus_id), ")");
  return absl::OkStatus();
}

CudaDevice::~CudaDevice() {
  cudaSetDevice(index_);
  for (const Slot& slot : slots_) {
    if (slot.done != nullptr) cudaEventDestroy(slot.done);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  if (copy_stream_ != nullptr) cudaStreamDestroy(copy_stream_);
  if (pinned_ != nullptr) cudaFreeHost(pinned_);
}

absl::StatusOr<CudaDevice*> CudaDevice::Of(Device& device) {
  auto* cuda = dynamic_cast<CudaDevice*>(&device);
  if (cuda != nullptr) return cuda;
  return absl::InvalidArgumentError(
      absl::StrCat("wanted a CUDA device, found \"", device.name(), "\""));
}

std::string CudaDevice::name() const { return absl::StrCat("cuda:", index_); }

absl::Status CudaDevice::MakeCurrent() const { return CUDA_STATUS(cudaSetDevice(index_)); }

void CudaDevice::Watch(StreamWatcher* watcher) {
  if (watchers_.empty()) watching_thread_ = std::this_thread::get_id();
  watchers_.push_back(watcher);
}

void CudaDevice::Unwatch(StreamWatcher* watcher) {
  watchers_.erase(std::remove(watchers_.begin(), watchers_.end(), watcher), watchers_.end());
}

absl::Status CudaDevice::PollWatchers() {
  absl::Status first;  // all are asked: each sees to its own work when a rank is lost
  for (StreamWatcher* watcher : watchers_) first.Update(watcher->Poll());
  return first;
}

template <typename Query>
absl::Status CudaDevice::Await(const Query& query, bool watched) {
  const Clock::time_point begin = Clock::now();
  Clock::time_point next_look = begin + std::chrono::milliseconds(1);
  while (true) {
    const cudaError_t error = query();
    if (error == cudaSuccess) return absl::OkStatus();
    if (error != cudaErrorNotReady) {
      return Annotate(CudaStatus(error, "work on the stream", __FILE__, __LINE__), name());
    }
    const Clock::time_point now = Clock::now();
    if (watched && now >= next_look) {
      RETURN_IF_ERROR(PollWatchers());
      next_look = now + std::chrono::milliseconds(1);
    }
    Pause(now - begin);
  }
}

// However a wait ends, it does so for all watchers.
template <typename Query>
absl::Status CudaDevice::WaitUntil(const Query& query) {
  const bool watched = !watchers_.empty() && std::this_thread::get_id() == watching_thread_;
  absl::Status status = Await(query, watched);
  if (!watched) return status;
  for (StreamWatcher* watcher : watchers_) status.Update(watcher->Finished());
  return status;
}

absl::Status CudaDevice::WaitFor(cudaStream_t stream) {
  return WaitUntil([=] { return cudaStreamQuery(stream); });
}

absl::Status CudaDevice::Synchronize() {
  RETURN_IF_ERROR(MakeCurrent());
  return WaitFor(stream_);
}

absl::StatusOr<int64_t> CudaDevice::FreeMemory() const {
  RETURN_IF_ERROR(MakeCurrent());
  size_t free, total;
  CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free, &total));
  return static_cast<int64_t>(free);
}

// Zeroed, as the CPU's memory is.
absl::StatusOr<std::unique_ptr<Buffer>> CudaDevice::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), ": wanted a buffer of 0 or more bytes, found ", bytes));
  }
  RETURN_IF_ERROR(MakeCurrent());
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, std::max<int64_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    ASSIGN_OR_RETURN(const int64_t free, FreeMemory());
    return absl::ResourceExhaustedError(absl::StrCat(name(), ": wanted ", FormatBytes(bytes), " (",
                                                     bytes, " bytes), ", FormatBytes(free), " (",
                                                     free, " bytes) are free"));
  }
  if (error != cudaSuccess) {
    return Annotate(CudaStatus(error, "cudaMalloc", __FILE__, __LINE__), name());
  }
  auto buffer = std::make_unique<CudaBuffer>(index_, data, bytes);
  CUDA_RETURN_IF_ERROR(cudaMemsetAsync(data, 0, std::max<int64_t>(bytes, 1), copy_stream_));
  CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(copy_stream_));
  return buffer;
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaDevice::AllocateHost(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), ": wanted a buffer of 0 or more bytes, found ", bytes));
  }
  RETURN_IF_ERROR(MakeCurrent());
  void* data = nullptr;
  const absl::Status status = CUDA_STATUS(cudaMallocHost(&data, std::max<int64_t>(bytes, 1)));
  if (!status.ok()) {
    return Annotate(
        status, absl::StrCat(name(), ": wanted ", FormatBytes(bytes), " of pinned host memory"));
  }
  std::memset(data, 0, std::max<int64_t>(bytes, 1));
  return std::make_unique<PinnedBuffer>(data, bytes);
}

absl::Status CudaDevice::Enqueue(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
  RETURN_IF_ERROR(CheckBytes(name(), to, from, bytes));
  if (bytes == 0) return absl::OkStatus();
  RETURN_IF_ERROR(MakeCurrent());
  return CUDA_STATUS(cudaMemcpyAsync(to, from, bytes, kind, stream_));
}

absl::Status CudaDevice::EnqueueCopyFromHost(void* to, const void* from, int64_t bytes) {
  return Enqueue(to, from, bytes, cudaMemcpyHostToDevice);
}

absl::Status CudaDevice::EnqueueCopyToHost(void* to, const void* from, int64_t bytes) {
  return Enqueue(to, from, bytes, cudaMemcpyDeviceToHost);
}

absl::Status CudaDevice::EnqueueCopy(void* to, const void* from, int64_t bytes) {
  return Enqueue(to, from, bytes, cudaMemcpyDeviceToDevice);
}

absl::Status CudaDevice::CopySmallFromHost(void* to, const void* from, int64_t bytes) {
  std::lock_guard<std::mutex> lock(slots_mutex_);
  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % kSlots;
  // Until the copy before last round has ended.
  RETURN_IF_ERROR(WaitUntil([&] { return cudaEventQuery(slot.done); }));
  std::memcpy(slot.data, from, bytes);
  CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(to, slot.data, bytes, cudaMemcpyHostToDevice, stream_));
  return CUDA_STATUS(cudaEventRecord(slot.done, stream_));
}

// The work before it on the stream may use the same memory, and may be stuck: waits for that first.
absl::Status CudaDevice::CopyBeside(void* to, const void* from, int64_t bytes,
                                    cudaMemcpyKind kind) {
  RETURN_IF_ERROR(WaitFor(stream_));
  CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(to, from, bytes, kind, copy_stream_));
  return CUDA_STATUS(cudaStreamSynchronize(copy_stream_));
}

absl::Status CudaDevice::CopyFromHost(void* to, const void* from, int64_t bytes) {
  RETURN_IF_ERROR(CheckBytes(name(), to, from, bytes));
  if (bytes == 0) return absl::OkStatus();
  RETURN_IF_ERROR(MakeCurrent());
  if (bytes <= kSlotBytes) return CopySmallFromHost(to, from, bytes);
  return CopyBeside(to, from, bytes, cudaMemcpyHostToDevice);
}

absl::Status CudaDevice::CopyToHost(void* to, const void* from, int64_t bytes) {
  RETURN_IF_ERROR(CheckBytes(name(), to, from, bytes));
  if (bytes == 0) return absl::OkStatus();
  RETURN_IF_ERROR(MakeCurrent());
  if (bytes > kBackBytes) return CopyBeside(to, from, bytes, cudaMemcpyDeviceToHost);
  std::lock_guard<std::mutex> lock(back_mutex_);
  char* const staging = pinned_ + kSlots * kSlotBytes;
  CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(staging, from, bytes, cudaMemcpyDeviceToHost, stream_));
  RETURN_IF_ERROR(WaitFor(stream_));
  std::memcpy(to, staging, bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Uploader>> CudaDevice::MakeUploader(int64_t capacity) {
  return MakeCudaUploader(*this, capacity);
}

absl::StatusOr<std::unique_ptr<DeviceGraph>> CudaDevice::Capture(
    const std::function<absl::Status()>& work) {
  RETURN_IF_ERROR(Synchronize());
  return CaptureCudaGraph(*this, work);
}

absl::StatusOr<double> CudaDevice::MeasureCopyBandwidth(int64_t bytes) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> from, Allocate(bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> to, Allocate(bytes));
  ASSIGN_OR_RETURN(const double seconds, BestSeconds(*this, /*rounds=*/10, [&] {
                     return EnqueueCopy(to->data(), from->data(), bytes);
                   }));
  return 2 * static_cast<double>(bytes) / seconds;
}

}  // namespace tprun
