#include "tests/comm/fake_nccl.h"

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/comm/fake_cuda_runtime.h"

namespace tprun {
namespace {

FakeNccl* fake = nullptr;

// What the ranks of one communicator share.
struct Group {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int64_t, std::vector<std::vector<float>>> parts;  // of each sum so far
  std::atomic<int> begun{0}, registered{0};                  // ranks that came to it
};

std::mutex mutex;                                  // of these
std::map<int64_t, std::shared_ptr<Group>> groups;  // by unique id
std::set<void*> windows;                           // memory of them
// Their kernels may still look at them, for as long as the process lives.
std::vector<ncclComm_t>& aborted = *new std::vector<ncclComm_t>;

}  // namespace
}  // namespace tprun

struct ncclComm {
  std::shared_ptr<tprun::Group> group;
  int ranks = 0;
  int rank = 0;
  std::atomic<int64_t> sums{0};
  std::atomic<bool> abort{false};
  const char* window = nullptr;
  const std::atomic<int>* awaited = nullptr;  // not done until all ranks have come to it
  bool fails = false;                         // what it has begun
};

namespace tprun {
namespace {

using Microseconds = std::chrono::microseconds;

ncclResult_t GetUniqueId(ncclUniqueId* id) {
  static std::atomic<int64_t> next{1};
  const int64_t number = next++;
  std::memcpy(id, &number, sizeof(number));
  return ncclSuccess;
}

// Something that takes all ranks.
ncclResult_t Begin(ncclComm_t comm, std::atomic<int>& came, int failing_rank) {
  comm->fails = comm->rank == failing_rank;
  comm->awaited = &came;
  if (!comm->fails) ++came;
  return ncclInProgress;
}

ncclResult_t CommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  const bool ready =
      !fake->never_starts && (comm->awaited == nullptr || *comm->awaited % comm->ranks == 0);
  *result = comm->fails ? ncclSystemError : ready ? ncclSuccess : ncclInProgress;
  return ncclSuccess;
}

ncclResult_t CommInit(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t*) {
  ++fake->begun;
  if (rank == fake->failing_rank && !fake->fails_later) return ncclSystemError;
  int64_t number = 0;
  std::memcpy(&number, &id, sizeof(number));
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Group>& group = groups[number];
  if (group == nullptr) group = std::make_shared<Group>();
  *comm = new ncclComm{group, ranks};
  (*comm)->rank = rank;
  return Begin(*comm, group->begun, fake->failing_rank);
}

// On the stream: gives its part and waits for the others'.
void SumOnStream(ncclComm_t comm, int64_t number, const float* send, float* receive, size_t count) {
  Group& group = *comm->group;
  std::unique_lock<std::mutex> lock(group.mutex);
  std::vector<std::vector<float>>& parts = group.parts[number];
  parts.emplace_back(send, send + count);
  group.changed.notify_all();
  const bool hangs = fake->windows_hang && reinterpret_cast<const char*>(receive) == comm->window;
  while ((static_cast<int>(parts.size()) < comm->ranks || hangs) && !comm->abort) {
    group.changed.wait_for(lock, Microseconds(200));
  }
  if (comm->abort) return;
  for (size_t i = 0; i < count; ++i) {
    float sum = 0;
    for (const std::vector<float>& part : parts) sum += part[i];
    receive[i] = sum;
  }
  lock.unlock();
  const bool in_window = reinterpret_cast<const char*>(receive) == comm->window;
  if (in_window && fake->windows_sum_wrong) receive[0] += 1;
  std::this_thread::sleep_for(
      Microseconds(in_window ? fake->window_delay_us.load() : fake->plain_delay_us.load()));
}

ncclResult_t AllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                       ncclRedOp_t, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32) return ncclInvalidArgument;
  GiveToStream(stream, [=, number = comm->sums++] {
    SumOnStream(comm, number, static_cast<const float*>(send), static_cast<float*>(receive), count);
  });
  return ncclInProgress;
}

// The kernels end first, then all that was recorded has to be gone.
ncclResult_t CommAbort(ncclComm_t comm) {
  comm->abort = true;
  while (fake->graphs > 0) std::this_thread::sleep_for(Microseconds(200));
  {
    std::lock_guard<std::mutex> lock(mutex);
    aborted.push_back(comm);
  }
  ++fake->aborted;
  return ncclSuccess;
}

ncclResult_t CommDestroy(ncclComm_t comm) {
  ++fake->destroyed;
  delete comm;
  return ncclSuccess;
}

ncclResult_t WindowRegister(ncclComm_t comm, void* memory, size_t, void** window, int) {
  if (fake->windows_are_null) return ncclSuccess;
  comm->window = static_cast<char*>(memory);
  *window = memory;
  return Begin(comm, comm->group->registered, fake->rank_without_window);
}

ncclResult_t WindowDeregister(ncclComm_t comm, void*) {
  ++fake->windows_closed;
  comm->window = nullptr;
  return ncclSuccess;
}

ncclResult_t MemAlloc(void** memory, size_t bytes) {
  *memory = std::calloc(bytes, 1);
  std::lock_guard<std::mutex> lock(mutex);
  windows.insert(*memory);
  return ncclSuccess;
}

ncclResult_t MemFree(void* memory) {
  ++fake->freed;
  std::lock_guard<std::mutex> lock(mutex);
  windows.erase(memory);
  std::free(memory);
  return ncclSuccess;
}

}  // namespace

void UseNccl(FakeNccl* nccl) { fake = nccl; }

std::string NcclVersionText(int) { return "fake"; }

absl::StatusOr<NcclApi> LoadNccl() {
  NcclApi api;
  api.GetVersion = [](int* version) { return *version = NCCL_VERSION_CODE, ncclSuccess; };
  api.GetUniqueId = GetUniqueId;
  api.CommInitRankConfig = CommInit;
  api.CommFinalize = [](ncclComm_t) { return ncclSuccess; };
  api.CommDestroy = CommDestroy;
  api.CommAbort = CommAbort;
  api.CommGetAsyncError = CommGetAsyncError;
  api.GetErrorString = [](ncclResult_t) { return "a fake error"; };
  api.GetLastError = [](ncclComm_t) { return ""; };
  api.AllReduce = AllReduce;
  api.MemAlloc = MemAlloc;
  api.MemFree = MemFree;
  api.CommWindowRegister = WindowRegister;
  api.CommWindowDeregister = WindowDeregister;
  return api;
}

}  // namespace tprun
