#include "tests/comm/fake_cuda_runtime.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "comm/cuda_graph.h"
#include "comm/cuda_probe.h"
#include "comm/cuda_uploader.h"

struct CUstream_st {
  CUstream_st() : thread([this] { Run(); }) {}
  ~CUstream_st() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      ending = true;
    }
    changed.notify_all();
    thread.join();
  }

  void Give(std::function<void()> work) {
    std::lock_guard<std::mutex> lock(mutex);
    queue.push_back(std::move(work));
    changed.notify_all();
  }
  bool Idle() {
    std::lock_guard<std::mutex> lock(mutex);
    return queue.empty();
  }
  void Await() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return queue.empty(); });
  }
  void Run() {
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return ending || !queue.empty(); });
      if (queue.empty()) return;
      const std::function<void()> work = queue.front();
      lock.unlock();
      work();
      lock.lock();
      queue.pop_front();
      changed.notify_all();
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> queue;  // with what runs
  bool ending = false;
  std::thread thread;  // begins when the rest is there
};

struct CUevent_st {
  std::atomic<int> pending{0};
  std::chrono::steady_clock::time_point when;
};

namespace {

thread_local std::set<cudaStream_t> streams;  // of the thread's own GPU

}  // namespace

namespace tprun {

void GiveToStream(cudaStream_t stream, std::function<void()> work) {
  stream->Give(std::move(work));
}

cudaError_t FindMachineCode() { return cudaSuccess; }

absl::StatusOr<std::unique_ptr<DeviceGraph>> CaptureCudaGraph(
    CudaDevice&, const std::function<absl::Status()>&) {
  return absl::UnimplementedError("the fake runtime has no graphs");
}

absl::StatusOr<std::unique_ptr<Uploader>> MakeCudaUploader(CudaDevice&, int64_t) {
  return absl::UnimplementedError("the fake runtime has no uploader");
}

}  // namespace tprun

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = 9, cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "a fake error"; }
const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return *free = *total = size_t{1} << 30, cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  return (*memory = std::malloc(bytes)) != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
// Waits for the GPU, as the real one does.
cudaError_t cudaFree(void* memory) {
  for (cudaStream_t stream : streams) stream->Await();
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) { return cudaMalloc(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return stream->Give([=] { std::memmove(to, from, bytes); }), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return stream->Give([=] { std::memset(memory, value, bytes); }), cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  streams.insert(*stream = new CUstream_st);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return stream->Idle() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return stream->Await(), cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t* event) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ++event->pending;
  stream->Give([event] {
    event->when = std::chrono::steady_clock::now();
    --event->pending;
  });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event->pending == 0 ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->when - begin->when).count();
  return cudaSuccess;
}
