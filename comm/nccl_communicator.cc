#include "comm/nccl_communicator.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/communicator_checks.h"
#include "comm/cuda_device.h"
#include "comm/cuda_timer.h"
#include "comm/deadline.h"
#include "comm/nccl_api.h"
#include "comm/nccl_error.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

constexpr int kSymmetric = 1;  // NCCL_WIN_COLL_SYMMETRIC
constexpr int64_t kTrySumCount = 100'000;
constexpr int kTrySums = 10;  // timed

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
  void* SumBuffer(int64_t bytes) override {
    return window_ != nullptr && bytes <= kNcclWindowBytes ? window_memory_ : nullptr;
  }
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
  // These are collective, with one result on all ranks.
  //
  // FailedPrecondition where NCCL itself fails.
  absl::Status Connect(const NcclOptions& options);
  // Memory that NCCL's kernels of all ranks reach directly, tried with a sum. FailedPrecondition
  // where it would be of no use; after another error nor is the communicator.
  absl::Status OpenWindow();
  absl::Status CompareWindow();

  absl::Status AllocateWindow();
  absl::Status RegisterWindow();
  absl::Status TryWindow();
  absl::Status SumInWindow(const void* send, void* receive, int64_t count, DType dtype);
  absl::Status Sum(const void* send, void* receive, int64_t count, ncclDataType_t type);
  absl::Status CloseWindow();
  void FreeWindow();
  // Calls NCCL through `call()` and waits until it has given its work to the stream.
  template <typename Call>
  absl::Status Run(const char* operation, const Call& call);
  absl::Status AwaitCall(const char* operation, ncclResult_t result);
  // The same for a call that does not end where it failed on another rank; collective.
  template <typename Call>
  absl::Status RunTogether(const char* operation, const absl::Status& late, const Call& call);
  absl::Status Late(const char* operation) const {
    return DeadlineError(operation, group_.world_ranks[rank()], group_.world_ranks, timeout());
  }
  // The first failure: ends what is stuck on the stream.
  absl::Status Fail(absl::Status status);
  absl::Status NcclError(const char* operation, ncclResult_t result);
  // ncclCommAbort on a thread of its own: it ends NCCL's kernels, and then waits until all CUDA
  // graphs that its operations were recorded in are gone, which whoever owns them lets go of only
  // when the failure has been told.
  void BeginAbort();
  // Waits some seconds for the end of all that may use the window: an abort, copies on the stream.
  bool Ends() const;
  void Leave();

  const NcclApi api_;
  const PeerGroup group_;
  CudaDevice& device_;
  std::string description_;
  ncclComm_t comm_ = nullptr;
  void* window_memory_ = nullptr;
  void* window_ = nullptr;
  const char* last_operation_ = "";
  bool waiting_ = false;  // the device waits for the stream since wait_began_
  Deadline::Clock::time_point wait_began_;
  absl::Status failure_;
  std::future<void> abort_;
};

absl::Status NcclCommunicator::NcclError(const char* operation, ncclResult_t result) {
  const char* const detail = api_.GetLastError(comm_);
  return tprun::NcclError({.operation = operation,
                           .rank = group_.world_ranks[rank()],
                           .group = group_.world_ranks,
                           .device = device_.description(),
                           .result = result,
                           .text = api_.GetErrorString(result),
                           .detail = absl::NullSafeStringView(detail)});
}

absl::Status NcclCommunicator::Fail(absl::Status status) {
  if (!failure_.ok()) return failure_;
  failure_ = std::move(status);
  if (comm_ != nullptr) BeginAbort();
  return failure_;
}

void NcclCommunicator::BeginAbort() {
  std::promise<void> ended;
  abort_ = ended.get_future();
  std::thread([abort = api_.CommAbort, comm = std::exchange(comm_, nullptr),
               ended = std::move(ended)]() mutable {
    abort(comm);
    ended.set_value();
  }).detach();
}

bool NcclCommunicator::Ends() const {
  constexpr std::chrono::microseconds kPause(100);
  const Deadline patience(absl::Seconds(5));
  while (abort_.valid() && abort_.wait_for(kPause) != std::future_status::ready) {
    if (patience.Passed()) return false;
  }
  while (cudaStreamQuery(device_.stream()) == cudaErrorNotReady) {
    if (patience.Passed()) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

absl::Status NcclCommunicator::AwaitCall(const char* operation, ncclResult_t result) {
  const Deadline deadline(timeout());
  int looks = 0;
  while (result == ncclInProgress) {
    if (++looks % 64 == 0) {
      const absl::Status health = Check();
      if (!health.ok()) return Fail(health);
    }
    if (deadline.Passed()) return Fail(Late(operation));
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

template <typename Call>
absl::Status NcclCommunicator::RunTogether(const char* operation, const absl::Status& late,
                                           const Call& call) {
  ncclResult_t result = ncclInProgress;
  bool begun = false;
  const absl::Status status =
      AwaitOnAllRanks(*group_.bootstrap, late, [&]() -> absl::StatusOr<bool> {
        if (!std::exchange(begun, true)) {
          RETURN_IF_ERROR(failure_);
          RETURN_IF_ERROR(device_.MakeCurrent());
          result = call();
        } else {
          const ncclResult_t asked = api_.CommGetAsyncError(comm_, &result);
          if (asked != ncclSuccess) result = asked;
        }
        if (result == ncclInProgress) return false;
        if (result != ncclSuccess) return NcclError(operation, result);
        return true;
      });
  return status.ok() ? status : Fail(status);
}

// An error of NCCL's own, which other ways to exchange may not meet.
absl::Status Unusable(const absl::Status& status) {
  return absl::IsInternal(status) ? absl::FailedPreconditionError(status.message()) : status;
}

absl::Status NcclCommunicator::Connect(const NcclOptions& options) {
  ncclUniqueId id = {};
  absl::Status status;
  if (rank() == 0) {
    const ncclResult_t result = api_.GetUniqueId(&id);
    if (result != ncclSuccess) status = Unusable(NcclError("starting", result));
  }
  RETURN_IF_ERROR(AgreeOnStatus(*group_.bootstrap, status));
  RETURN_IF_ERROR(group_.bootstrap->Broadcast(&id, sizeof(id), 0));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = options.channels;
  // The ranks hear each other all the while, so that it is no rank that is late.
  const absl::Status late = absl::FailedPreconditionError(absl::StrCat(
      "NCCL did not start within ", absl::FormatDuration(timeout()), " on ", device_.description(),
      " in the group [", absl::StrJoin(group_.world_ranks, ", "),
      "]: usually it takes a network interface that the ranks do not reach each other by; name "
      "another (NCCL_SOCKET_IFNAME), or do without NCCL (--exchange=host)"));
  return Unusable(RunTogether("starting", late, [&] {
    return api_.CommInitRankConfig(&comm_, size(), id, rank(), &config);
  }));
}

absl::Status NcclCommunicator::Initialize(const NcclOptions& options) {
  RETURN_IF_ERROR(Connect(options));
  device_.Watch(this);
  int version = 0;
  api_.GetVersion(&version);
  description_ =
      absl::StrCat("NCCL ", NcclVersionText(version), ", at most ", options.channels, " channels");
  const absl::Status window = OpenWindow();
  if (window.ok()) {
    absl::StrAppend(&description_, ", sums up to ", FormatBytes(kNcclWindowBytes),
                    " in a symmetric window");
    return absl::OkStatus();
  }
  absl::StrAppend(&description_, "; no symmetric window: ", window.message());
  if (absl::IsFailedPrecondition(window)) return CloseWindow();
  RETURN_IF_ERROR(Check());
  (void)Fail(window);
  if (Ends()) FreeWindow();
  window_memory_ = window_ = nullptr;
  failure_ = absl::OkStatus();
  return Connect(options);
}

absl::Status NcclCommunicator::AllocateWindow() {
  const ncclResult_t result = api_.MemAlloc(&window_memory_, kNcclWindowBytes);
  if (result == ncclSuccess) return absl::OkStatus();
  window_memory_ = nullptr;
  return NcclError("allocating a window", result);
}

// A window that is null: NCCL has none between these GPUs, which is no error to it.
absl::Status NcclCommunicator::RegisterWindow() {
  RETURN_IF_ERROR(RunTogether("registering a window", Late("registering a window"), [&] {
    return api_.CommWindowRegister(comm_, window_memory_, kNcclWindowBytes, &window_, kSymmetric);
  }));
  if (window_ != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("NCCL has none between these GPUs");
}

// A sum whose result is known.
absl::Status NcclCommunicator::TryWindow() {
  std::vector<float> values(kTrySumCount, static_cast<float>(rank() + 1));
  const int64_t bytes = kTrySumCount * static_cast<int64_t>(sizeof(float));
  RETURN_IF_ERROR(device_.CopyFromHost(window_memory_, values.data(), bytes));
  RETURN_IF_ERROR(Sum(window_memory_, window_memory_, kTrySumCount, ncclFloat32));
  RETURN_IF_ERROR(device_.CopyToHost(values.data(), window_memory_, bytes));
  const float wanted = static_cast<float>(size() * (size() + 1)) / 2;
  const auto right = std::count(values.begin(), values.end(), wanted);
  if (right == kTrySumCount) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("a sum tried in it had ", kTrySumCount - right, " wrong elements"));
}

// NCCL also gives a window where its kernels make no use of it: sums are then only slower, by the
// copies in and out.
absl::Status NcclCommunicator::CompareWindow() {
  Communicator& bootstrap = *group_.bootstrap;
  const absl::StatusOr<std::unique_ptr<Buffer>> buffer =
      device_.Allocate(kTrySumCount * static_cast<int64_t>(sizeof(float)));  // zeros
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, buffer.status()));
  void* const data = (*buffer)->data();
  const absl::StatusOr<double> with = BestSeconds(
      device_, kTrySums, [&] { return SumInWindow(data, data, kTrySumCount, DType::kF32); });
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, with.status()));
  const absl::StatusOr<double> without =
      BestSeconds(device_, kTrySums, [&] { return Sum(data, data, kTrySumCount, ncclFloat32); });
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, without.status()));
  // Of all ranks, so that all decide the same.
  float microseconds[2] = {static_cast<float>(*with * 1e6), static_cast<float>(*without * 1e6)};
  RETURN_IF_ERROR(bootstrap.AllReduceSum(microseconds, microseconds, 2, DType::kF32));
  for (float& time : microseconds) time /= static_cast<float>(size());
  if (microseconds[0] < microseconds[1]) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("a sum of %d KB took %.1f us through one, %.1f us without",
                      kTrySumCount * 4 / 1000, microseconds[0], microseconds[1]));
}

absl::Status NcclCommunicator::OpenWindow() {
  Communicator& bootstrap = *group_.bootstrap;
  RETURN_IF_ERROR(AgreeOnStatus(
      bootstrap, api_.has_windows() ? absl::OkStatus()
                                    : absl::FailedPreconditionError("NCCL is older than 2.27")));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, AllocateWindow()));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, RegisterWindow()));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, TryWindow()));
  return CompareWindow();
}

// NCCL's call is the same on all ranks, wherever each has its part.
absl::Status NcclCommunicator::SumInWindow(const void* send, void* receive, int64_t count,
                                           DType dtype) {
  const int64_t bytes = count * static_cast<int64_t>(SizeOf(dtype));
  if (send != window_memory_) {
    RETURN_IF_ERROR(device_.EnqueueCopy(window_memory_, send, bytes));
  }
  RETURN_IF_ERROR(Sum(window_memory_, window_memory_, count, NcclType(dtype)));
  return receive == window_memory_ ? absl::OkStatus()
                                   : device_.EnqueueCopy(receive, window_memory_, bytes);
}

absl::Status NcclCommunicator::CloseWindow() {
  if (window_ != nullptr) {
    RETURN_IF_ERROR(
        Run("closing a window", [&] { return api_.CommWindowDeregister(comm_, window_); }));
  }
  FreeWindow();
  return absl::OkStatus();
}

void NcclCommunicator::FreeWindow() {
  if (window_memory_ != nullptr) api_.MemFree(window_memory_);
  window_memory_ = window_ = nullptr;
}

NcclCommunicator::~NcclCommunicator() {
  device_.Unwatch(this);
  Leave();
  if (window_memory_ != nullptr && Ends()) FreeWindow();
}

// Finalising takes the other ranks; when they do not come soon, or cannot, it is done without them.
void NcclCommunicator::Leave() {
  if (comm_ == nullptr || !device_.MakeCurrent().ok()) return;
  ncclResult_t result = ncclInternalError;
  if (Check().ok()) {
    const Deadline deadline(absl::Seconds(1));
    const auto settled = [&](ncclResult_t called) {
      result = called;
      while (result == ncclInProgress && !deadline.Passed()) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        if (api_.CommGetAsyncError(comm_, &result) != ncclSuccess) break;
      }
      return result == ncclSuccess;
    };
    const bool closed = window_ == nullptr || settled(api_.CommWindowDeregister(comm_, window_));
    if (closed) settled(api_.CommFinalize(comm_));
  }
  if (result == ncclSuccess) {
    api_.CommDestroy(comm_);
  } else {
    BeginAbort();
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
  return Fail(Late(last_operation_));
}

absl::Status NcclCommunicator::Finished() {
  waiting_ = false;
  return failure_;
}

absl::Status NcclCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                            DType dtype) {
  if (count == 0) return failure_;
  const int64_t bytes = count * static_cast<int64_t>(SizeOf(dtype));
  if (window_ != nullptr && bytes <= kNcclWindowBytes)
    return SumInWindow(send, receive, count, dtype);
  return Sum(send, receive, count, NcclType(dtype));
}

absl::Status NcclCommunicator::Sum(const void* send, void* receive, int64_t count,
                                   ncclDataType_t type) {
  return Run("AllReduceSum", [&] {
    return api_.AllReduce(send, receive, count, type, ncclSum, comm_, device_.stream());
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
