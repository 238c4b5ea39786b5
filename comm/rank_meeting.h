#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace tprun {

// Asked every few milliseconds of a wait, which ends with its error.
using WaitCheck = std::function<absl::Status()>;

// Where ranks that share memory, as processes or as threads, wait for each other. Each counts its
// meetings in a line of its own; the others spin on it for a moment and then sleep on it (futex),
// which is the only wait that is short on idle cores, on busy ones and on too few. What a rank
// wrote before it came, the others see after the meeting.
//
//   RankMeeting meeting(memory, rank, ranks);
//   ... write my part ...
//   RETURN_IF_ERROR(meeting.Meet(bytes, check));
//   ... read all parts ...
//   meeting.Leave();
//   RETURN_IF_ERROR(meeting.AwaitLeft(check));  // before my part is written again
class RankMeeting {
 public:
  // A multiple of the size of a page.
  static int64_t Bytes(int ranks);

  // `memory` is zeroed at first, the same on all ranks, and outlives it.
  RankMeeting(void* memory, int rank, int ranks);

  // Waits until all have come. `bytes` is the same on all ranks, or Internal says who has come with
  // what; after an error the meeting is of no further use.
  absl::Status Meet(int64_t bytes, const WaitCheck& check);

  // This rank has read what the others wrote before the last meeting.
  void Leave();
  // Waits until all others have left it.
  absl::Status AwaitLeft(const WaitCheck& check);

 private:
  struct Line;
  Line& line(int rank) const;
  absl::Status Await(Line& line, std::atomic<uint32_t>& count, const WaitCheck& check);
  void Tell(std::atomic<uint32_t>& count);

  char* const memory_;
  const int rank_;
  const int ranks_;
  uint32_t meetings_ = 0;
};

}  // namespace tprun
