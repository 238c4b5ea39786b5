#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "comm/shared_parts.h"
#include "comm/sum_and_norm.h"

namespace tprun {

// A group of ranks that exchange data. Every rank of the group makes the same calls in the same
// order. A communicator is bound at creation to the one stream of its device (for CPU ranks: the
// calling thread), so calls are ordered with the kernels of that stream. Over CPU ranks memory is
// the host's and a call ends when its work has; over devices (see comm/device_communicator.h) it is
// the device's, the call may return at once, and an error then shows in Device::Synchronize.
//
//   ASSIGN_OR_RETURN(auto pair, world->Split({0, 2}));            // nullptr on rank 1
//   RETURN_IF_ERROR(pair->AllReduceSum(partial, sum, count, DType::kF32));
//
// Every wait ends: with DeadlineExceeded after `timeout()` (naming the operation, this rank and
// the group), or with Aborted as soon as any rank called Abort (naming that rank and its reason).
// After an error the communicator is of no further use. Not thread-safe.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // in [0, size())
  virtual int size() const = 0;
  virtual absl::Duration timeout() const = 0;
  virtual absl::string_view backend() const = 0;  // "local", "mpi", "host", "ipc", "nccl"
  // What carries the data and why, for the log.
  virtual std::string description() const { return std::string(backend()); }
  // Whether its operations on device memory may be recorded by Device::Capture.
  virtual bool capturable() const { return false; }
  // Whether messages of moderate size (1 MiB in all) leave Send before they are received. If not,
  // the ranks send and receive in an order in which each Send meets its Receive.
  virtual bool buffers_sends() const { return true; }

  // receive[i] = sum over ranks of send[i], for i < count; the same bits on every rank. `send` may
  // equal `receive`, else they do not overlap. Sums of bf16 and f16 are formed in f32 and rounded
  // at least once.
  virtual absl::Status AllReduceSum(const void* send, void* receive, int64_t count,
                                    DType dtype) = 0;

  // Whether AllReduceAddNorm takes so much; the same on every rank.
  virtual bool FusesNorm(int64_t /*tokens*/, int64_t /*dim*/) const { return false; }

  // residual += the sum over ranks of parts, with the same bits on every rank as AllReduceSum; then
  // out = residual / sqrt(mean(residual^2) + eps) * weight, token by token.
  virtual absl::Status AllReduceAddNorm(const SumAndNorm& /*what*/) {
    return absl::UnimplementedError("this communicator does not join sum and norm");
  }

  // Device memory of this communicator's own where sums of up to so many bytes in place are
  // cheapest; null where any memory will do. What is there is lost with the next sum elsewhere.
  virtual void* SumBuffer(int64_t /*bytes*/) { return nullptr; }

  // Memory for sums in place of up to so many floats; nullptr, on all ranks, where the ranks do not
  // reach each other's memory or find no room.
  virtual absl::StatusOr<std::unique_ptr<SharedParts>> ShareParts(int64_t /*floats*/) {
    return nullptr;
  }

  // Rank r gives counts[r] elements; `receive` gets all of them in rank order (sum of counts
  // elements). counts is the same on every rank, has size() entries, and may hold zeros. `send` may
  // point at this rank's place inside `receive`.
  virtual absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                                 DType dtype) = 0;

  // Copies `bytes` bytes at `data` from rank `root` to all others.
  virtual absl::Status Broadcast(void* data, int64_t bytes, int root) = 0;

  // One message; the sizes on both sides are equal. Messages between two ranks keep their order.
  // Send may return before the message is received, and then has copied it.
  virtual absl::Status Send(const void* data, int64_t bytes, int to) = 0;
  virtual absl::Status Receive(void* data, int64_t bytes, int from) = 0;

  virtual absl::Status Barrier() = 0;

  // A communicator of some ranks of this one, in the order given (so new rank i is ranks[i]); only
  // those ranks call it, all with the same list. InvalidArgument for a repeated or unknown
  // rank, or when the caller is not in the list.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) = 0;

  // Looks without waiting whether a rank has failed or called Abort: the error that a wait would
  // end with. For the rank's own thread.
  virtual absl::Status Check() { return absl::OkStatus(); }

  // Ends every rank of the world as soon as it next waits. May be called from any thread.
  virtual void Abort(const std::string& reason) = 0;
};

// Convenience over Broadcast: the string of `root` on every rank.
absl::StatusOr<std::string> BroadcastString(Communicator& comm, std::string value, int root);

// Every rank gives its own status; all get OK, or the error of the lowest failing rank with its
// name in front ("rank 2: ..."). Called at the end of a phase in which ranks may fail apart. When
// the ranks cannot talk any more, a rank gets its own error or why they cannot; `agreed` (may be
// null) is then false.
absl::Status AgreeOnStatus(Communicator& comm, const absl::Status& status, bool* agreed = nullptr);

// Every rank waits for something of its own that the others may be needed for: `done()` is asked
// again and again, and is true when it is there, or an error. Ends with the same status on all
// ranks: OK when all are done, else soon after the first error, with that rank's name in front as
// AgreeOnStatus has it, or after `comm.timeout()` with `late`.
absl::Status AwaitOnAllRanks(Communicator& comm, const absl::Status& late,
                             const std::function<absl::StatusOr<bool>()>& done);

}  // namespace tprun
