#include "comm/communicator.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/deadline.h"

namespace tprun {
namespace {

constexpr int32_t kPending = -1;  // beside the codes of a Status

// The code of every rank. They travel as the bits of 32-bit elements.
absl::StatusOr<std::vector<int32_t>> GatherCodes(Communicator& comm, int32_t own) {
  static_assert(sizeof(int32_t) == sizeof(float));
  std::vector<int32_t> codes(comm.size(), 0);
  const std::vector<int64_t> counts(comm.size(), 1);
  RETURN_IF_ERROR(comm.AllGather(&own, codes.data(), counts, DType::kF32));
  return codes;
}

// Also when the ranks cannot talk any more, the rank's own error is the better news.
absl::Status OwnOr(const Communicator& comm, const absl::Status& own, const absl::Status& other) {
  return own.ok() ? other : NameRank(comm.rank(), own);
}

}  // namespace

absl::StatusOr<std::string> BroadcastString(Communicator& comm, std::string value, int root) {
  RETURN_IF_ERROR(CheckRank("BroadcastString", root, comm.size()));
  int64_t bytes = static_cast<int64_t>(value.size());
  RETURN_IF_ERROR(comm.Broadcast(&bytes, sizeof(bytes), root));
  if (bytes < 0 || bytes > static_cast<int64_t>(value.max_size())) {
    return absl::InternalError(absl::StrCat("BroadcastString: rank ", root, " sent a length of ",
                                            bytes, "; are all ranks of the same build?"));
  }
  value.resize(bytes);
  RETURN_IF_ERROR(comm.Broadcast(value.data(), bytes, root));
  return value;
}

absl::Status AgreeOnStatus(Communicator& comm, const absl::Status& status, bool* agreed) {
  bool ignored;
  if (agreed == nullptr) agreed = &ignored;
  *agreed = false;
  // The world has ended, and every rank has this same error.
  if (IsAbortedByRank(status)) return status;
  absl::StatusOr<std::vector<int32_t>> codes = GatherCodes(comm, status.raw_code());
  if (!codes.ok()) return OwnOr(comm, status, codes.status());
  int failed = 0;
  while (failed < comm.size() && (*codes)[failed] == 0) ++failed;
  if (failed == comm.size()) {
    *agreed = true;
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> message =
      BroadcastString(comm, std::string(status.message()), failed);
  if (!message.ok()) return OwnOr(comm, status, message.status());
  *agreed = true;
  return NameRank(failed, absl::Status(static_cast<absl::StatusCode>((*codes)[failed]), *message));
}

absl::Status AwaitOnAllRanks(Communicator& comm, const absl::Status& late,
                             const std::function<absl::StatusOr<bool>()>& done) {
  constexpr absl::Duration kLongestRound = absl::Milliseconds(20);
  const Deadline deadline(comm.timeout());
  absl::StatusOr<bool> own = false;
  for (absl::Duration round = absl::Milliseconds(1);; round = std::min(2 * round, kLongestRound)) {
    const Deadline look(round);
    while (own.ok() && !*own) {
      own = done();
      if (look.Passed()) break;
      if (own.ok() && !*own) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    if (own.ok() && !*own && deadline.Passed()) own = late;
    if (IsAbortedByRank(own.status())) return own.status();
    const absl::StatusOr<std::vector<int32_t>> codes =
        GatherCodes(comm, own.ok() && !*own ? kPending : own.status().raw_code());
    if (!codes.ok()) return OwnOr(comm, own.status(), codes.status());
    const bool failed = std::any_of(codes->begin(), codes->end(), [](int32_t c) { return c > 0; });
    if (failed) return AgreeOnStatus(comm, own.status());
    if (std::count(codes->begin(), codes->end(), kPending) == 0) return absl::OkStatus();
  }
}

}  // namespace tprun
