#include "comm/shared_parts.h"

#include <chrono>
#include <utility>

#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr int64_t kPage = 4096;  // no two ranks' parts on one, so that each is on its owner's node

}  // namespace

int64_t SharedParts::PartBegin(int rank, int ranks, int64_t floats) {
  const int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
  return RankMeeting::Bytes(ranks) + rank * ((bytes + kPage - 1) / kPage * kPage);
}

SharedParts::SharedParts(std::shared_ptr<void> memory, int rank, int ranks, int64_t floats,
                         absl::Duration timeout, CheckWait check)
    : memory_(std::move(memory)),
      meeting_(memory_.get(), rank, ranks),
      rank_(rank),
      floats_(floats),
      timeout_(timeout),
      check_(std::move(check)) {
  for (int r = 0; r < ranks; ++r) {
    char* const part = static_cast<char*>(memory_.get()) + PartBegin(r, ranks, floats);
    all_.push_back(reinterpret_cast<float*>(part));
  }
}

// The time runs from the first check, so that a short wait does not ask for it.
absl::Status SharedParts::Check(std::optional<Deadline>& deadline) const {
  if (!deadline.has_value()) deadline.emplace(timeout_);
  return check_(*deadline);
}

absl::Status SharedParts::Meet(int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
  std::optional<Deadline> deadline;
  const auto meet = [&] { return meeting_.Meet(bytes, [&] { return Check(deadline); }); };
  if (watch_ == nullptr) return meet();
  const Deadline watched(timeout_);
  RETURN_IF_ERROR(meet());
  watch_(bytes, std::chrono::duration<double>(watched.Elapsed()).count());
  return absl::OkStatus();
}

absl::Status SharedParts::AwaitReaders() {
  std::optional<Deadline> deadline;
  return meeting_.AwaitLeft([&] { return Check(deadline); });
}

}  // namespace tprun
