#include "comm/communicator_checks.h"

#include <limits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// ": no memory" of "rank 12: no memory"; "" for a message that does not begin with a rank.
absl::string_view AfterRank(absl::string_view message) {
  if (!absl::ConsumePrefix(&message, "rank ")) return "";
  const size_t digits = message.find_first_not_of("0123456789");
  return digits == 0 || digits == message.npos ? "" : message.substr(digits);
}

}  // namespace

absl::Status CheckBuffer(absl::string_view operation, const void* data, int64_t count) {
  // 4 is the largest element: the size in bytes fits as well.
  if (count < 0 || count > std::numeric_limits<int64_t>::max() / 4) {
    return absl::InvalidArgumentError(
        absl::StrCat(operation, ": the count must be 0 or more, it is ", count));
  }
  if (data == nullptr && count > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(operation, ": a null buffer with a count of ", count));
  }
  return absl::OkStatus();
}

absl::Status CheckRank(absl::string_view operation, int rank, int size) {
  if (rank >= 0 && rank < size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(operation, ": wanted a rank from 0 to ", size - 1, ", found ", rank));
}

absl::Status CheckAllGather(const void* send, const void* receive, absl::Span<const int64_t> counts,
                            int rank, int size, DType dtype) {
  if (counts.size() != size) {
    return absl::InvalidArgumentError(absl::StrCat("AllGather: wanted one count for each of ", size,
                                                   " ranks, found ", counts.size()));
  }
  const int64_t most = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(SizeOf(dtype));
  int64_t total = 0;
  for (int r = 0; r < size; ++r) {
    if (counts[r] < 0 || counts[r] > most - total) {
      return absl::InvalidArgumentError(absl::StrCat("AllGather: the count of rank ", r, " is ",
                                                     counts[r], " after a sum of ", total));
    }
    total += counts[r];
  }
  RETURN_IF_ERROR(CheckBuffer("AllGather", send, counts[rank]));
  return CheckBuffer("AllGather", receive, total);
}

absl::Status CheckSplit(absl::Span<const int> ranks, int rank, int size) {
  std::vector<bool> seen(size, false);
  for (int r : ranks) {
    RETURN_IF_ERROR(CheckRank("Split", r, size));
    if (seen[r]) {
      return absl::InvalidArgumentError(
          absl::StrCat("Split: rank ", r, " stands twice in [", absl::StrJoin(ranks, ", "), "]"));
    }
    seen[r] = true;
  }
  if (seen[rank]) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "Split: called by rank ", rank, ", which is not in [", absl::StrJoin(ranks, ", "), "]"));
}

absl::Status DeadlineError(absl::string_view operation, int rank, absl::Span<const int> group,
                           absl::Duration timeout) {
  if (group.size() == 2 && group[0] != group[1]) {
    return absl::DeadlineExceededError(
        absl::StrCat(operation, " on rank ", rank, " waited ", absl::FormatDuration(timeout),
                     " for rank ", group[group[0] == rank ? 1 : 0],
                     ": that one is stuck or far slower; raise the timeout if it is slow"));
  }
  return absl::DeadlineExceededError(absl::StrCat(
      operation, " on rank ", rank, " of the group [", absl::StrJoin(group, ", "), "] waited ",
      absl::FormatDuration(timeout),
      " for the other ranks: one of them is stuck or far slower; raise the timeout if it is slow"));
}

absl::Status AbortedByRank(int rank, absl::string_view reason) {
  return absl::AbortedError(absl::StrCat("rank ", rank, " failed: ", reason));
}

bool IsAbortedByRank(const absl::Status& status) {
  return absl::IsAborted(status) && absl::StartsWith(AfterRank(status.message()), " failed: ");
}

absl::Status NameRank(int rank, const absl::Status& status) {
  const absl::string_view rest = AfterRank(status.message());
  if (absl::StartsWith(rest, ": ") || absl::StartsWith(rest, " failed: ")) return status;
  return Annotate(status, absl::StrCat("rank ", rank));
}

}  // namespace tprun
