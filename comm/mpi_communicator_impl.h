#pragma once

#include <mpi.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "comm/mpi_state.h"
#include "comm/shared_memory.h"
#include "comm/shared_memory_sum.h"

namespace tprun {

// A Communicator over one MPI communicator, with non-blocking calls only, so that every wait has a
// deadline and hears of failures. Large messages move only while both sides are in a call.
class MpiCommunicator final : public Communicator {
 public:
  // The world. MPI_COMM_WORLD is not used itself: others may talk there.
  static absl::StatusOr<std::unique_ptr<MpiCommunicator>> MakeWorld(
      std::shared_ptr<MpiState> state);

  // `comm` stays allocated until MPI is finalised: freeing it is collective, and ranks let go of
  // their communicators at any time. `world_ranks` are its members.
  MpiCommunicator(std::shared_ptr<MpiState> state, MPI_Comm comm, int rank,
                  std::vector<int> world_ranks)
      : state_(std::move(state)), comm_(comm), rank_(rank), world_ranks_(std::move(world_ranks)) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }
  absl::Duration timeout() const override { return state_->timeout(); }
  absl::string_view backend() const override { return "mpi"; }
  std::string description() const override {
    return shared_sum_.has_value() ? "mpi, sums over shared memory" : "mpi";
  }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  absl::StatusOr<std::unique_ptr<SharedParts>> ShareParts(int64_t floats) override;
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override;
  absl::Status Check() override { return state_->Check(); }
  void Abort(const std::string& reason) override { state_->Abort(reason); }

 private:
  // Starts a non-blocking call, `start(request)`, and waits for it.
  template <typename Start>
  absl::Status RunAndWait(const char* operation, const Start& start);
  absl::Status GatherByBroadcasts(const void* send, char* receive, absl::Span<const int64_t> counts,
                                  int64_t element_bytes);
  absl::Status ReceivePiece(void* data, int bytes, int from);
  // New memory that all ranks map, of which each reserves what it is to; none where they are on
  // several hosts or one finds no room.
  absl::StatusOr<std::optional<SharedMemory>> MapTogether(
      int64_t bytes, const std::function<absl::Status(SharedMemory&)>& reserve);
  // Sums over memory that the ranks share, if they are on one host and find room; decided by all
  // together, at the first sum.
  absl::Status ShareMemory();
  absl::Status SumByMpi(const void* send, void* receive, int64_t count, DType dtype);
  absl::Status MeetForSplit(absl::Span<const int> ranks, int tag);

  const std::shared_ptr<MpiState> state_;
  const MPI_Comm comm_;
  const int rank_;
  const std::vector<int> world_ranks_;
  bool tried_to_share_ = false;
  std::optional<SharedMemory> shared_memory_;
  std::optional<SharedMemorySum> shared_sum_;  // none: by MPI
};

}  // namespace tprun
