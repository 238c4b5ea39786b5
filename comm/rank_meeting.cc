#include "comm/rank_meeting.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

constexpr int64_t kPage = 4096;
constexpr int kSpins = 2000;
constexpr timespec kLook = {0, 5'000'000};  // how long a sleep lasts at most

// Shared between processes, so not the private kind. Wrong wake-ups are the caller's to see.
void SleepWhile(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &kLook, nullptr, 0);
}
void WakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

// What a rank tells the others, on a page of its own.
struct RankMeeting::Line {
  alignas(64) std::atomic<uint32_t> came;  // the last meeting that the rank has come to
  int64_t bytes[2];                        // that it came with, in turn
  alignas(64) std::atomic<uint32_t> left;  // the last that it has left
  alignas(64) std::atomic<uint32_t> sleepers;
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

int64_t RankMeeting::Bytes(int ranks) { return ranks * kPage; }

RankMeeting::RankMeeting(void* memory, int rank, int ranks)
    : memory_(static_cast<char*>(memory)), rank_(rank), ranks_(ranks) {
  static_assert(sizeof(Line) <= kPage);
}

RankMeeting::Line& RankMeeting::line(int rank) const {
  return *reinterpret_cast<Line*>(memory_ + rank * kPage);
}

// The count and that of the sleepers are sequentially consistent: a sleeper sees the one or is seen
// as the other.
void RankMeeting::Tell(std::atomic<uint32_t>& count) {
  count.store(meetings_);
  if (line(rank_).sleepers.load() != 0) WakeAll(count);
}

absl::Status RankMeeting::Await(Line& line, std::atomic<uint32_t>& count, const WaitCheck& check) {
  const auto reached = [this](uint32_t value) {
    return static_cast<int32_t>(value - meetings_) >= 0;
  };
  for (int spin = 0; spin < kSpins; ++spin) {
    if (reached(count.load(std::memory_order_acquire))) return absl::OkStatus();
    SpinPause();
  }
  while (!reached(count.load(std::memory_order_acquire))) {
    line.sleepers.fetch_add(1);
    const uint32_t value = count.load();
    if (!reached(value)) SleepWhile(count, value);
    line.sleepers.fetch_sub(1);
    if (reached(count.load(std::memory_order_acquire))) break;
    RETURN_IF_ERROR(check());
  }
  return absl::OkStatus();
}

// A rank's `bytes` of a meeting stay until it comes to the one after the next, when all have read
// them.
absl::Status RankMeeting::Meet(int64_t bytes, const WaitCheck& check) {
  ++meetings_;
  line(rank_).bytes[meetings_ % 2] = bytes;
  Tell(line(rank_).came);
  for (int r = 0; r < ranks_; ++r) {
    if (r == rank_) continue;
    RETURN_IF_ERROR(Await(line(r), line(r).came, check));
    const int64_t theirs = line(r).bytes[meetings_ % 2];
    if (theirs == bytes) continue;
    return absl::InternalError(absl::StrCat("AllReduceSum: rank ", rank_, " of the group gave ",
                                            bytes, " bytes, rank ", r, " ", theirs));
  }
  return absl::OkStatus();
}

void RankMeeting::Leave() { Tell(line(rank_).left); }

absl::Status RankMeeting::AwaitLeft(const WaitCheck& check) {
  for (int r = 0; r < ranks_; ++r) {
    if (r != rank_) RETURN_IF_ERROR(Await(line(r), line(r).left, check));
  }
  return absl::OkStatus();
}

}  // namespace tprun
