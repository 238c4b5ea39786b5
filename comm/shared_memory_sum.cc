#include "comm/shared_memory_sum.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/element_sum.h"

namespace tprun {
namespace {

constexpr int64_t kSlotBytes = 256 << 10;  // two slots of two ranks stay in L2
// From which a sum of more than two ranks is shared out: half the reading, one meeting more.
constexpr int64_t kShareFromBytes = 32 << 10;

}  // namespace

// Meeting, slots, results.
int64_t SharedMemorySum::Bytes(int ranks) {
  return RankMeeting::Bytes(ranks) + 2 * kSlotBytes * ranks + 2 * kSlotBytes;
}

SharedMemorySum::SharedMemorySum(void* memory, int rank, int ranks)
    : meeting_(memory, rank, ranks),
      slots_(static_cast<char*>(memory) + RankMeeting::Bytes(ranks)),
      rank_(rank),
      ranks_(ranks) {}

char* SharedMemorySum::slot(int rank) const {
  return slots_ + (2 * rank + pieces_ % 2) * kSlotBytes;
}
char* SharedMemorySum::result() const { return slots_ + (2 * ranks_ + pieces_ % 2) * kSlotBytes; }

// A slot is filled again two pieces later: all have then come to the piece between, so they are
// done with this one.
absl::Status SharedMemorySum::Piece(const char* send, char* receive, int64_t count, DType dtype,
                                    const WaitCheck& check) {
  const auto element = static_cast<int64_t>(SizeOf(dtype));
  const int64_t bytes = count * element;
  ++pieces_;
  std::memcpy(slot(rank_), send, bytes);
  RETURN_IF_ERROR(meeting_.Meet(bytes, check));
  std::vector<const void*> sources;
  for (int r = 0; r < ranks_; ++r) {
    // Its own part is still in its cache; a result over it is written behind what was read.
    sources.push_back(r == rank_ ? static_cast<const void*>(send) : slot(r));
  }
  if (ranks_ == 2 || bytes < kShareFromBytes) {
    SumElements(sources, {receive}, 0, count, dtype);
    return absl::OkStatus();
  }
  const int64_t line = 64 / element;  // no two ranks write to one
  const int64_t share = (count / ranks_ / line + 1) * line;
  const int64_t begin = std::min(count, rank_ * share);
  SumElements(sources, {result()}, begin, std::min(count, begin + share), dtype);
  RETURN_IF_ERROR(meeting_.Meet(bytes, check));
  std::memcpy(receive, result(), bytes);
  return absl::OkStatus();
}

absl::Status SharedMemorySum::Run(const void* send, void* receive, int64_t count, DType dtype,
                                  const WaitCheck& check) {
  const auto element = static_cast<int64_t>(SizeOf(dtype));
  const int64_t most = kSlotBytes / element;
  for (int64_t done = 0; done < count; done += most) {
    RETURN_IF_ERROR(Piece(static_cast<const char*>(send) + done * element,
                          static_cast<char*>(receive) + done * element,
                          std::min(most, count - done), dtype, check));
  }
  return absl::OkStatus();
}

}  // namespace tprun
