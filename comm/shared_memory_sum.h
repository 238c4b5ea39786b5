#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "base/dtype.h"
#include "comm/rank_meeting.h"

namespace tprun {

// An all-reduce of ranks that share memory. Each rank has two slots that it fills in turn, and
// meets the others. All add the slots up in the order of the ranks, so they get the same bits;
// large sums of more than two ranks are shared out.
//
//   ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Create(name, SharedMemorySum::Bytes(2)));
//   SharedMemorySum sum(memory.data(), rank, 2);
//   RETURN_IF_ERROR(sum.Run(x, x, count, DType::kF32, [&] { return CheckDeadline(); }));
class SharedMemorySum {
 public:
  static int64_t Bytes(int ranks);

  // `memory` is zeroed, the same on all ranks, and outlives it.
  SharedMemorySum(void* memory, int rank, int ranks);

  // As Communicator::AllReduceSum, with a count of at least 1. While it waits it calls `check`
  // every few milliseconds and ends with its error.
  absl::Status Run(const void* send, void* receive, int64_t count, DType dtype,
                   const WaitCheck& check);

 private:
  absl::Status Piece(const char* send, char* receive, int64_t count, DType dtype,
                     const WaitCheck& check);
  char* slot(int rank) const;  // of the piece that is under way
  char* result() const;

  RankMeeting meeting_;
  char* const slots_;
  const int rank_;
  const int ranks_;
  uint32_t pieces_ = 0;
};

}  // namespace tprun
