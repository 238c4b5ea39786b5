#include "comm/communicator.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"

namespace tprun {
namespace {

// The status code of every rank. The codes travel as the bits of 32-bit elements.
absl::StatusOr<std::vector<int32_t>> GatherCodes(Communicator& comm, absl::StatusCode code) {
  static_assert(sizeof(int32_t) == sizeof(float));
  std::vector<int32_t> codes(comm.size(), 0);
  const int32_t own = static_cast<int32_t>(code);
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
  absl::StatusOr<std::vector<int32_t>> codes = GatherCodes(comm, status.code());
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

}  // namespace tprun
