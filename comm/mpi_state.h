#pragma once

#include <mpi.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "comm/deadline.h"

namespace tprun {

// The text of an MPI error code.
std::string MpiErrorText(int code);

// What all communicators of this process share: the lock that keeps MPI calls apart
// (MPI_THREAD_SERIALIZED), the wait with its deadline, the notices of failure between ranks, and
// the messages that are on their way.
//
// Once anything fails, everything fails with that first error and MPI is not called any more but to
// spread the news and to end: buffers that a lost operation still points at are then never touched.
class MpiState {
 public:
  // Call after MPI_Init_thread.
  static absl::StatusOr<std::shared_ptr<MpiState>> Create(absl::Duration timeout);
  ~MpiState();

  absl::Duration timeout() const { return timeout_; }
  int world_rank() const { return world_rank_; }
  int world_size() const { return world_size_; }
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  // The sum of bf16 and f16 elements, which MPI lacks.
  MPI_Op SumOp(DType dtype) const;

  // Runs one MPI call, given as `call()` that returns its error code, under the lock.
  template <typename Call>
  absl::Status Run(const char* name, const Call& call) {
    if (failed_) return failure();
    int code;
    {
      std::lock_guard<std::timed_mutex> lock(mpi_mutex_);
      code = call();
    }
    return code == MPI_SUCCESS ? absl::OkStatus() : FailedCall(name, code);
  }

  // Waits until all requests are done. `group` are the world ranks that take part. `status` is that
  // of the first request.
  absl::Status Wait(absl::Span<MPI_Request> requests, const char* operation,
                    absl::Span<const int> group, MPI_Status* status = MPI_STATUS_IGNORE);

  // For a wait outside MPI that began at `deadline`'s start: news of a failure, or that it has
  // taken too long, which is then the failure of all.
  absl::Status CheckWait(const Deadline& deadline, const char* operation,
                         absl::Span<const int> group);

  // Copies the message and sends it; waits when more than 64 MiB are on their way. A message larger
  // than that is sent from `data` and waited for.
  absl::Status SendBuffered(MPI_Comm comm, const void* data, int bytes, int to,
                            absl::Span<const int> group);

  // Forgets messages that have arrived; moves those on their way.
  absl::Status DropSent();

  // Looks once for news of a failure, from the rank's own thread.
  absl::Status Check() { return PollNotice(); }

  // Tells all ranks, from any thread. This process ends by MPI_Abort soon, unless it ends before.
  void Abort(const std::string& reason);

  // Leaves MPI: finalises it when nothing failed and all ranks come; else gives the others time to
  // tell their users why, and then ends this process and the job with MPI_Abort.
  void Finish();

  absl::Status failure();

 private:
  // One message on its way, with its own copy of the bytes.
  struct Outgoing {
    MPI_Request request = MPI_REQUEST_NULL;
    std::string bytes;
  };
  // What a failing rank sends to all others.
  struct Notice {
    int32_t rank = 0;
    std::array<char, 1020> reason = {};
  };

  explicit MpiState(absl::Duration timeout) : timeout_(timeout) {}
  absl::Status Initialize();
  absl::Status FindLocalRanks();
  absl::Status FailedCall(const char* name, int code);
  absl::Status Fail(absl::Status status);  // records the first failure and returns it
  absl::Status TestAll(absl::Span<MPI_Request> requests, const char* operation, MPI_Status* status,
                       bool* done);
  absl::Status PollNotice();
  void SpreadFailure();
  void GuardAbort();
  void Progress();
  void StopGuard();
  [[noreturn]] void AbortJob();
  absl::Status FinishInOrder();

  const absl::Duration timeout_;
  int world_rank_ = 0;
  int world_size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  std::chrono::nanoseconds spin_{0};
  MPI_Op sum_bf16_ = MPI_OP_NULL;
  MPI_Op sum_f16_ = MPI_OP_NULL;

  std::timed_mutex mpi_mutex_;  // held during every MPI call
  MPI_Comm notice_comm_ = MPI_COMM_NULL;
  MPI_Request notice_request_ = MPI_REQUEST_NULL;
  Notice notice_in_;
  Notice notice_out_;
  std::vector<MPI_Request> notice_sends_;
  std::deque<Outgoing> outgoing_;  // used by the rank's own thread only
  int64_t outgoing_bytes_ = 0;

  std::mutex failure_mutex_;
  std::condition_variable guard_wakes_;
  std::atomic<bool> failed_{false};
  absl::Status failure_;      // guarded by failure_mutex_
  bool spread_ = false;       // the others know; guarded by failure_mutex_
  bool guard_stops_ = false;  // guarded by failure_mutex_
  bool finished_ = false;
  std::thread guard_;
};

}  // namespace tprun
