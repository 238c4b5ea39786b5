#include "comm/nccl_communicator.h"

#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/cuda_device.h"
#include "comm/deadline.h"
#include "comm/nccl_api.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

ncclDataType_t NcclType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF16:
      return ncclFloat16;
    case DType::kBF16:
      return ncclBfloat16;
  }
  return ncclInt8;
}

class NcclCommunicator final : public Communicator, public StreamWatcher {
 public:
  NcclCommunicator(const NcclApi& api, PeerGroup group, CudaDevice& device)
      : api_(api), group_(std::move(group)), device_(device) {}
  ~NcclCommunicator() override;
  absl::Status Initialize(const NcclOptions& options);

  int rank() const override { return group_.bootstrap->rank(); }
  int size() const override { return group_.bootstrap->size(); }
  absl::Duration timeout() const override { return group_.bootstrap->timeout(); }
  absl::string_view backend() const override { return "nccl"; }
  std::string description() const override { return description_; }
  bool capturable() const override { return true; }
  bool buffers_sends() const override { return false; }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int>) override {
    return absl::UnimplementedError("the owner of an NcclCommunicator splits");
  }
  absl::Status Check() override { return group_.bootstrap->Check(); }
  void Abort(const std::string& reason) override { group_.bootstrap->Abort(reason); }

  // While the device waits for its stream.
  absl::Status Poll() override;
  absl::Status Finished() override;

 private:
  // Calls NCCL through `call()` and waits until it has given its work to the stream.
  template <typename Call>
  absl::Status Run(const char* operation, const Call& call);
  absl::Status AwaitCall(const char* operation, ncclResult_t result);
  // The first failure: ends what is stuck on the stream.
  absl::Status Fail(absl::Status status);
  absl::Status NcclError(const char* operation, ncclResult_t result);
  void Leave();

  const NcclApi api_;
  const PeerGroup group_;
  CudaDevice& device_;
  std::string description_;
  ncclComm_t comm_ = nullptr;
  const char* last_operation_ = "";
  bool waiting_ = false;  // the device waits for the stream since wait_began_
  Deadline::Clock::time_point wait_began_;
  absl::Status failure_;
};

absl::Status NcclCommunicator::NcclError(const char* operation, ncclResult_t result) {
  const char* detail = api_.GetLastError(comm_);
  return absl::InternalError(
      absl::StrCat(operation, " over NCCL failed on rank ", group_.world_ranks[rank()], ": ",
                   api_.GetErrorString(result), detail == nullptr || *detail == '\0' ? "" : ": ",
                   detail == nullptr ? "" : detail));
}

absl::Status NcclCommunicator::Fail(absl::Status status) {
  if (!failure_.ok()) return failure_;
  failure_ = std::move(status);
  if (comm_ != nullptr) api_.CommAbort(std::exchange(comm_, nullptr));
  return failure_;
}

absl::Status NcclCommunicator::AwaitCall(const char* operation, ncclResult_t result) {
  const Deadline deadline(timeout());
  int looks = 0;
  while (result == ncclInProgress) {
    if (++looks % 64 == 0) {
      const absl::Status health = Check();
      if (!health.ok()) return Fail(health);
    }
    if (deadline.Passed()) {
      return Fail(
          DeadlineError(operation, group_.world_ranks[rank()], group_.world_ranks, timeout()));
    }
    looks < 1000 ? SpinPause() : std::this_thread::sleep_for(std::chrono::microseconds(50));
    const ncclResult_t asked = api_.CommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) result = asked;
  }
  return result == ncclSuccess ? absl::OkStatus() : Fail(NcclError(operation, result));
}

template <typename Call>
absl::Status NcclCommunicator::Run(const char* operation, const Call& call) {
  if (!failure_.ok()) return failure_;
  RETURN_IF_ERROR(device_.MakeCurrent());
  last_operation_ = operation;
  return AwaitCall(operation, call());
}

absl::Status NcclCommunicator::Initialize(const NcclOptions& options) {
  RETURN_IF_ERROR(device_.MakeCurrent());
  ncclUniqueId id = {};
  absl::Status status;
  if (rank() == 0) {
    const ncclResult_t result = api_.GetUniqueId(&id);
    if (result != ncclSuccess) status = NcclError("starting", result);
  }
  RETURN_IF_ERROR(AgreeOnStatus(*group_.bootstrap, status));
  RETURN_IF_ERROR(group_.bootstrap->Broadcast(&id, sizeof(id), 0));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = options.channels;
  const ncclResult_t result = api_.CommInitRankConfig(&comm_, size(), id, rank(), &config);
  RETURN_IF_ERROR(AwaitCall("starting", result));
  int version = 0;
  api_.GetVersion(&version);
  description_ =
      absl::StrCat("NCCL ", NcclVersionText(version), ", at most ", options.channels, " channels");
  device_.Watch(this);
  return absl::OkStatus();
}

NcclCommunicator::~NcclCommunicator() {
  device_.Unwatch(this);
  Leave();
}

// Finalising takes the other ranks; when they do not come soon, or cannot, it is done without them.
void NcclCommunicator::Leave() {
  if (comm_ == nullptr || !device_.MakeCurrent().ok()) return;
  ncclResult_t result = ncclInternalError;
  if (Check().ok()) {
    const Deadline deadline(absl::Seconds(1));
    result = api_.CommFinalize(comm_);
    while (result == ncclInProgress && !deadline.Passed()) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      if (api_.CommGetAsyncError(comm_, &result) != ncclSuccess) break;
    }
  }
  if (result == ncclSuccess) {
    api_.CommDestroy(comm_);
  } else {
    api_.CommAbort(comm_);
  }
}

absl::Status NcclCommunicator::Poll() {
  if (!failure_.ok()) return failure_;
  const auto now = Deadline::Clock::now();
  if (!std::exchange(waiting_, true)) wait_began_ = now;
  ncclResult_t result = ncclSuccess;
  if (api_.CommGetAsyncError(comm_, &result) != ncclSuccess) result = ncclInternalError;
  if (result != ncclSuccess && result != ncclInProgress) {
    return Fail(NcclError(last_operation_, result));
  }
  const absl::Status health = Check();
  if (!health.ok()) return Fail(health);
  if (now - wait_began_ < absl::ToChronoNanoseconds(timeout())) return absl::OkStatus();
  return Fail(
      DeadlineError(last_operation_, group_.world_ranks[rank()], group_.world_ranks, timeout()));
}

absl::Status NcclCommunicator::Finished() {
  waiting_ = false;
  return failure_;
}

absl::Status NcclCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                            DType dtype) {
  if (count == 0) return failure_;
  return Run("AllReduceSum", [&] {
    return api_.AllReduce(send, receive, count, NcclType(dtype), ncclSum, comm_, device_.stream());
  });
}

// Parts of different lengths: one broadcast each, started together.
absl::Status NcclCommunicator::AllGather(const void* send, void* receive,
                                         absl::Span<const int64_t> counts, DType dtype) {
  return Run("AllGather", [&] {
    char* to = static_cast<char*>(receive);
    ncclResult_t result = api_.GroupStart();
    for (int r = 0; r < size() && result == ncclSuccess; ++r) {
      if (counts[r] == 0) continue;
      const void* from = r == rank() ? send : to;
      result = api_.Broadcast(from, to, counts[r], NcclType(dtype), r, comm_, device_.stream());
      if (result == ncclInProgress) result = ncclSuccess;  // the end of the group tells
      to += counts[r] * SizeOf(dtype);
    }
    const ncclResult_t ended = api_.GroupEnd();
    return result == ncclSuccess ? ended : result;
  });
}

absl::Status NcclCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  if (bytes == 0) return failure_;
  return Run("Broadcast", [&] {
    return api_.Broadcast(data, data, bytes, ncclInt8, root, comm_, device_.stream());
  });
}

absl::Status NcclCommunicator::Send(const void* data, int64_t bytes, int to) {
  if (bytes == 0) return failure_;
  return Run("Send", [&] { return api_.Send(data, bytes, ncclInt8, to, comm_, device_.stream()); });
}

absl::Status NcclCommunicator::Receive(void* data, int64_t bytes, int from) {
  if (bytes == 0) return failure_;
  return Run("Receive",
             [&] { return api_.Recv(data, bytes, ncclInt8, from, comm_, device_.stream()); });
}

absl::Status NcclCommunicator::Barrier() {
  RETURN_IF_ERROR(device_.Synchronize());
  return group_.bootstrap->Barrier();
}

}  // namespace

bool NcclLoads() { return LoadNccl().ok(); }

std::string NcclVersion() {
  const absl::StatusOr<NcclApi> api = LoadNccl();
  int version = 0;
  return api.ok() && api->GetVersion(&version) == ncclSuccess ? NcclVersionText(version) : "";
}

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(PeerGroup group, Device& device,
                                                                   const NcclOptions& options) {
  ASSIGN_OR_RETURN(CudaDevice* const cuda, CudaDevice::Of(device));
  const absl::StatusOr<NcclApi> api = LoadNccl();
  RETURN_IF_ERROR(AgreeOnStatus(*group.bootstrap, api.status()));
  auto communicator = std::make_unique<NcclCommunicator>(*api, std::move(group), *cuda);
  RETURN_IF_ERROR(communicator->Initialize(options));
  return communicator;
}

}  // namespace tprun
