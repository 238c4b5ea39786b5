#include "comm/mpi_state.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/deadline.h"
#include "comm/element_sum.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int64_t kMostBytesOnTheirWay = int64_t{64} << 20;
// How long a failed rank lets the others hear of it before it ends them: while its user still holds
// the session (the ranks may be computing), and once the user has let go of it.
constexpr milliseconds kGraceWhileHeld(1500);
constexpr milliseconds kGraceAtEnd(400);

void SumBFloat16(void* in, void* inout, int* count, MPI_Datatype*) {
  AddElements(in, inout, *count, DType::kBF16);
}

void SumFloat16(void* in, void* inout, int* count, MPI_Datatype*) {
  AddElements(in, inout, *count, DType::kF16);
}

void Sleep(nanoseconds duration) {
  const timespec length = {.tv_sec = 0, .tv_nsec = static_cast<long>(duration.count())};
  nanosleep(&length, nullptr);
}

// How a wait spends the time between two looks at its requests: spins first, since ranks in step
// answer within microseconds; then sleeps for an eighth of the time it has waited, 5 to 100 us.
// Yielding instead gives a whole time slice (4 ms) to a foreign process. A look that takes long has
// moved data, and starts the spinning anew.
class Backoff {
 public:
  explicit Backoff(nanoseconds spin) : spin_(spin), idle_since_(Deadline::Clock::now()) {}

  bool spinning() const { return spinning_; }

  void Pause(Deadline::Clock::time_point look_began, int looks) {
    const auto now = Deadline::Clock::now();
    if (now - look_began > looks * kBusyLook) idle_since_ = now;
    const nanoseconds idle = now - idle_since_;
    spinning_ = idle < spin_;
    if (spinning_) {
      SpinPause();
    } else {
      Sleep(std::clamp<nanoseconds>(idle / 8, microseconds(5), microseconds(100)));
    }
  }

 private:
  static constexpr microseconds kBusyLook{5};
  const nanoseconds spin_;
  Deadline::Clock::time_point idle_since_;
  bool spinning_ = true;
};

}  // namespace

std::string MpiErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return absl::StrCat("error ", code);
  return std::string(text, length);
}

absl::StatusOr<std::shared_ptr<MpiState>> MpiState::Create(absl::Duration timeout) {
  std::shared_ptr<MpiState> state(new MpiState(timeout));
  RETURN_IF_ERROR(state->Initialize());
  return state;
}

absl::Status MpiState::Initialize() {
  RETURN_IF_ERROR(Run("MPI_Comm_set_errhandler",
                      [] { return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN); }));
  RETURN_IF_ERROR(
      Run("MPI_Comm_rank", [&] { return MPI_Comm_rank(MPI_COMM_WORLD, &world_rank_); }));
  RETURN_IF_ERROR(
      Run("MPI_Comm_size", [&] { return MPI_Comm_size(MPI_COMM_WORLD, &world_size_); }));
  RETURN_IF_ERROR(FindLocalRanks());
  RETURN_IF_ERROR(Run("MPI_Op_create", [&] { return MPI_Op_create(SumBFloat16, 1, &sum_bf16_); }));
  RETURN_IF_ERROR(Run("MPI_Op_create", [&] { return MPI_Op_create(SumFloat16, 1, &sum_f16_); }));
  // A duplicate inherits the error handler.
  RETURN_IF_ERROR(Run("MPI_Comm_dup", [&] { return MPI_Comm_dup(MPI_COMM_WORLD, &notice_comm_); }));
  return Run("MPI_Irecv", [&] {
    return MPI_Irecv(&notice_in_, sizeof(notice_in_), MPI_BYTE, MPI_ANY_SOURCE, 0, notice_comm_,
                     &notice_request_);
  });
}

absl::Status MpiState::FindLocalRanks() {
  MPI_Comm local;
  RETURN_IF_ERROR(Run("MPI_Comm_split_type", [&] {
    return MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world_rank_, MPI_INFO_NULL,
                               &local);
  }));
  RETURN_IF_ERROR(Run("MPI_Comm_rank", [&] { return MPI_Comm_rank(local, &local_rank_); }));
  RETURN_IF_ERROR(Run("MPI_Comm_size", [&] { return MPI_Comm_size(local, &local_size_); }));
  RETURN_IF_ERROR(Run("MPI_Comm_free", [&] { return MPI_Comm_free(&local); }));
  const bool enough_cores = local_size_ <= sysconf(_SC_NPROCESSORS_ONLN);
  spin_ = microseconds(enough_cores ? 100 : 5);
  return absl::OkStatus();
}

MPI_Op MpiState::SumOp(DType dtype) const {
  switch (dtype) {
    case DType::kF32:
      return MPI_SUM;
    case DType::kF16:
      return sum_f16_;
    case DType::kBF16:
      return sum_bf16_;
  }
  return MPI_OP_NULL;
}

absl::Status MpiState::failure() {
  std::lock_guard<std::mutex> lock(failure_mutex_);
  return failure_;
}

absl::Status MpiState::Fail(absl::Status status) {
  std::lock_guard<std::mutex> lock(failure_mutex_);
  if (!failed_) failure_ = std::move(status);
  failed_ = true;
  return failure_;
}

absl::Status MpiState::FailedCall(const char* name, int code) {
  return Fail(absl::InternalError(
      absl::StrCat(name, " failed on rank ", world_rank_, ": ", MpiErrorText(code))));
}

absl::Status MpiState::PollNotice() {
  int arrived = 0;
  RETURN_IF_ERROR(Run("MPI_Test", [&] {
    return notice_request_ == MPI_REQUEST_NULL
               ? MPI_SUCCESS
               : MPI_Test(&notice_request_, &arrived, MPI_STATUS_IGNORE);
  }));
  if (!arrived) return absl::OkStatus();
  notice_in_.reason.back() = '\0';
  const absl::Status failure = Fail(AbortedByRank(notice_in_.rank, notice_in_.reason.data()));
  std::lock_guard<std::mutex> lock(failure_mutex_);
  spread_ = true;  // its sender told everybody
  return failure;
}

absl::Status MpiState::TestAll(absl::Span<MPI_Request> requests, const char* operation,
                               MPI_Status* status, bool* done) {
  *done = true;
  for (MPI_Request& request : requests) {
    int one_done = 0;
    MPI_Status* const to = &request == requests.data() ? status : MPI_STATUS_IGNORE;
    // A request that is done has become MPI_REQUEST_NULL, and testing it would clear its status.
    if (request == MPI_REQUEST_NULL) continue;
    RETURN_IF_ERROR(Run(operation, [&] { return MPI_Test(&request, &one_done, to); }));
    if (!one_done) *done = false;
  }
  return absl::OkStatus();
}

absl::Status MpiState::Wait(absl::Span<MPI_Request> requests, const char* operation,
                            absl::Span<const int> group, MPI_Status* status) {
  const Deadline deadline(timeout_);
  Backoff backoff(spin_);
  while (true) {
    const auto look_began = Deadline::Clock::now();
    const int looks = backoff.spinning() ? 16 : 1;  // a look at the notices for so many at ours
    for (int i = 0; i < looks; ++i) {
      bool done;
      RETURN_IF_ERROR(TestAll(requests, operation, status, &done));
      if (done) return absl::OkStatus();
    }
    RETURN_IF_ERROR(PollNotice());
    if (deadline.Passed()) return Fail(DeadlineError(operation, world_rank_, group, timeout_));
    backoff.Pause(look_began, looks);
  }
}

absl::Status MpiState::CheckWait(const Deadline& deadline, const char* operation,
                                 absl::Span<const int> group) {
  RETURN_IF_ERROR(PollNotice());
  if (!deadline.Passed()) return absl::OkStatus();
  return Fail(DeadlineError(operation, world_rank_, group, timeout_));
}

absl::Status MpiState::DropSent() {
  while (!outgoing_.empty()) {
    int done = 0;
    RETURN_IF_ERROR(Run("MPI_Test", [&] {
      return MPI_Test(&outgoing_.front().request, &done, MPI_STATUS_IGNORE);
    }));
    if (!done) break;
    outgoing_bytes_ -= static_cast<int64_t>(outgoing_.front().bytes.size());
    outgoing_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status MpiState::SendBuffered(MPI_Comm comm, const void* data, int bytes, int to,
                                    absl::Span<const int> group) {
  RETURN_IF_ERROR(DropSent());
  while (!outgoing_.empty() && outgoing_bytes_ + bytes > kMostBytesOnTheirWay) {
    RETURN_IF_ERROR(Wait(absl::MakeSpan(&outgoing_.front().request, 1), "Send", group));
    RETURN_IF_ERROR(DropSent());
  }
  if (bytes > kMostBytesOnTheirWay) {
    MPI_Request request;
    RETURN_IF_ERROR(
        Run("MPI_Isend", [&] { return MPI_Isend(data, bytes, MPI_BYTE, to, 0, comm, &request); }));
    return Wait(absl::MakeSpan(&request, 1), "Send", group);
  }
  // A deque keeps its elements where they are, so MPI may point at them.
  outgoing_.push_back({MPI_REQUEST_NULL, std::string(static_cast<const char*>(data), bytes)});
  outgoing_bytes_ += bytes;
  Outgoing& message = outgoing_.back();
  RETURN_IF_ERROR(Run("MPI_Isend", [&] {
    return MPI_Isend(message.bytes.data(), bytes, MPI_BYTE, to, 0, comm, &message.request);
  }));
  return DropSent();
}

void MpiState::Abort(const std::string& reason) {
  Fail(AbortedByRank(world_rank_, reason)).IgnoreError();
  SpreadFailure();
}

// Sends the failure to all ranks, once, and starts the guard that ends those who do not listen.
void MpiState::SpreadFailure() {
  std::string text;
  {
    std::lock_guard<std::mutex> lock(failure_mutex_);
    if (std::exchange(spread_, true)) return;
    text = std::string(failure_.message());
  }
  const std::string own_name = absl::StrCat("rank ", world_rank_, " failed: ");
  if (text.rfind(own_name, 0) == 0) text.erase(0, own_name.size());
  text.resize(std::min(text.size(), notice_out_.reason.size() - 1));
  notice_out_.rank = world_rank_;
  std::copy(text.begin(), text.end(), notice_out_.reason.begin());

  // Another thread may hang inside an MPI call: the guard then ends the job all the same.
  std::unique_lock<std::timed_mutex> lock(mpi_mutex_, milliseconds(200));
  for (int r = 0; lock.owns_lock() && r < world_size_; ++r) {
    if (r == world_rank_) continue;
    MPI_Request request;
    const int code =
        MPI_Isend(&notice_out_, sizeof(notice_out_), MPI_BYTE, r, 0, notice_comm_, &request);
    if (code == MPI_SUCCESS) notice_sends_.push_back(request);
  }
  if (lock.owns_lock()) lock.unlock();
  try {
    std::lock_guard<std::mutex> guard_lock(failure_mutex_);
    guard_ = std::thread([this] { GuardAbort(); });
  } catch (const std::system_error&) {
    AbortJob();
  }
}

// Moves the notices on.
void MpiState::Progress() {
  std::unique_lock<std::timed_mutex> lock(mpi_mutex_, milliseconds(10));
  int done;
  if (lock.owns_lock() && !notice_sends_.empty()) {
    MPI_Testall(static_cast<int>(notice_sends_.size()), notice_sends_.data(), &done,
                MPI_STATUSES_IGNORE);
  }
}

void MpiState::GuardAbort() {
  const auto end = Deadline::Clock::now() + kGraceWhileHeld;
  std::unique_lock<std::mutex> lock(failure_mutex_);
  while (!guard_stops_ && Deadline::Clock::now() < end) {
    lock.unlock();
    Progress();
    lock.lock();
    guard_wakes_.wait_for(lock, milliseconds(1), [&] { return guard_stops_; });
  }
  if (guard_stops_) return;
  lock.unlock();
  AbortJob();
}

void MpiState::StopGuard() {
  std::thread guard;
  {
    std::lock_guard<std::mutex> lock(failure_mutex_);
    guard_stops_ = true;
    guard_wakes_.notify_all();
    guard = std::move(guard_);
  }
  if (guard.joinable()) guard.join();
}

void MpiState::AbortJob() {
  std::fflush(nullptr);
  // Also when another thread hangs in MPI with the lock held: nothing is lost any more.
  std::unique_lock<std::timed_mutex> lock(mpi_mutex_, milliseconds(100));
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::abort();  // MPI_Abort does not return
}

// Until all ranks are here nobody finalises: MPI_Finalize may wait for ever.
absl::Status MpiState::FinishInOrder() {
  std::vector<int> everyone(world_size_);
  for (int r = 0; r < world_size_; ++r) everyone[r] = r;
  while (!outgoing_.empty()) {
    RETURN_IF_ERROR(Wait(absl::MakeSpan(&outgoing_.front().request, 1), "Send", everyone));
    RETURN_IF_ERROR(DropSent());
  }
  MPI_Request request;
  RETURN_IF_ERROR(Run("MPI_Ibarrier", [&] { return MPI_Ibarrier(notice_comm_, &request); }));
  RETURN_IF_ERROR(Wait(absl::MakeSpan(&request, 1), "MpiSession's end", everyone));
  RETURN_IF_ERROR(Run("MPI_Cancel", [&] { return MPI_Cancel(&notice_request_); }));
  RETURN_IF_ERROR(Wait(absl::MakeSpan(&notice_request_, 1), "MPI_Cancel", everyone));
  return Run("MPI_Finalize", [] { return MPI_Finalize(); });
}

void MpiState::Finish() {
  if (std::exchange(finished_, true)) return;
  absl::Status status = failed_ ? failure() : FinishInOrder();
  if (status.ok()) {
    Fail(absl::FailedPreconditionError("MPI has been finalised: its session has ended"))
        .IgnoreError();
    std::lock_guard<std::mutex> lock(failure_mutex_);
    spread_ = true;  // there is nobody to tell any more
    return;
  }
  SpreadFailure();
  StopGuard();
  const auto end = Deadline::Clock::now() + kGraceAtEnd;
  while (Deadline::Clock::now() < end) {
    Progress();
    Sleep(milliseconds(1));
  }
  AbortJob();
}

MpiState::~MpiState() { StopGuard(); }

}  // namespace tprun
