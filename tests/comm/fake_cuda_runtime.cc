#include "tests/comm/fake_cuda_runtime.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/cuda_probe.h"
#include "comm/cuda_uploader.h"

struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st : CUgraph_st {};

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
    if (recording != nullptr) return recording->work.push_back(std::move(work));
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
  cudaGraph_t recording = nullptr;          // gets what is given, which then does not run
  bool ending = false;
  std::thread thread;  // begins when the rest is there
};

struct CUevent_st {
  std::atomic<int> pending{0};
  std::chrono::steady_clock::time_point when;
};

namespace {

thread_local std::set<cudaStream_t> streams;  // of the thread's own GPU

struct Mapping {
  int file = -1;
  size_t bytes = 0;
};
std::mutex mappings_mutex;
std::map<void*, Mapping> mappings;  // of device memory, also other processes'

void Unmap(void* memory) {
  std::lock_guard<std::mutex> lock(mappings_mutex);
  const auto mapping = mappings.find(memory);
  if (mapping == mappings.end()) return;
  munmap(memory, mapping->second.bytes);
  close(mapping->second.file);
  mappings.erase(mapping);
}

std::atomic<int> copies_within{0};
std::atomic<bool> opens_fail{false};
std::atomic<int> close_delay_ms{0};
std::atomic<bool> freed_while_open{false};

// Behind the memory of an allocation, in all processes: how many others have it open.
constexpr size_t kCountBytes = 16;
std::atomic<int>& OpenCount(void* memory, size_t bytes) {
  return *reinterpret_cast<std::atomic<int>*>(static_cast<char*>(memory) + bytes / 8 * 8 -
                                              sizeof(int64_t));
}

// What a handle says.
struct SharedFile {
  pid_t process;
  int file;
  size_t bytes;
};

}  // namespace

namespace tprun {

void GiveToStream(cudaStream_t stream, std::function<void()> work) {
  stream->Give(std::move(work));
}

void FailToOpenMemory() { opens_fail = true; }
void CloseMemoryLate(int milliseconds) { close_delay_ms = milliseconds; }
bool FreedWhileOpen() { return freed_while_open; }

int CopiesWithinDevices() { return copies_within; }

cudaError_t FindMachineCode(int* code_capability) {
  *code_capability = 90;
  return cudaSuccess;
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

// In a file without a name, which another process can map.
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  bytes += kCountBytes;
  const int file = memfd_create("fake GPU", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    return cudaErrorMemoryAllocation;
  }
  *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (*memory == MAP_FAILED) return cudaErrorMemoryAllocation;
  std::lock_guard<std::mutex> lock(mappings_mutex);
  mappings[*memory] = {file, bytes};
  return cudaSuccess;
}
// Waits for the GPU, as the real one does.
cudaError_t cudaFree(void* memory) {
  for (cudaStream_t stream : streams) stream->Await();
  {
    std::lock_guard<std::mutex> lock(mappings_mutex);
    const auto mapping = mappings.find(memory);
    if (mapping != mappings.end() && OpenCount(memory, mapping->second.bytes) > 0) {
      freed_while_open = true;
    }
  }
  Unmap(memory);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  return (*memory = std::malloc(bytes)) != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind == cudaMemcpyDeviceToDevice) ++copies_within;
  return stream->Give([=] { std::memmove(to, from, bytes); }), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return stream->Give([=] { std::memset(memory, value, bytes); }), cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "Fake GPU");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int) {
  std::snprintf(id, size, "0000:3B:00.0");
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* possible, int, int) { return *possible = 1, cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  std::lock_guard<std::mutex> lock(mappings_mutex);
  const SharedFile file = {getpid(), mappings.at(memory).file, mappings.at(memory).bytes};
  static_assert(sizeof(file) <= sizeof(*handle));
  std::memcpy(handle, &file, sizeof(file));
  return cudaSuccess;
}
cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned) {
  if (opens_fail) return cudaErrorMapBufferObjectFailed;
  SharedFile shared;
  std::memcpy(&shared, &handle, sizeof(shared));
  const std::string path =
      "/proc/" + std::to_string(shared.process) + "/fd/" + std::to_string(shared.file);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return cudaErrorMapBufferObjectFailed;
  *memory = mmap(nullptr, shared.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  std::lock_guard<std::mutex> lock(mappings_mutex);
  mappings[*memory] = {file, shared.bytes};
  ++OpenCount(*memory, shared.bytes);
  return cudaSuccess;
}
cudaError_t cudaIpcCloseMemHandle(void* memory) {
  std::this_thread::sleep_for(std::chrono::milliseconds(close_delay_ms));
  {
    std::lock_guard<std::mutex> lock(mappings_mutex);
    --OpenCount(memory, mappings.at(memory).bytes);
  }
  return Unmap(memory), cudaSuccess;
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

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return stream->recording = new CUgraph_st, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return *graph = std::exchange(stream->recording, nullptr), cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status =
      stream->recording == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  return *executable = new CUgraphExec_st{*graph}, cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const std::function<void()>& work : executable->work) stream->Give(work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return delete executable, cudaSuccess;
}

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
