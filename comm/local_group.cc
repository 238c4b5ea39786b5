#include "comm/local_group.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/deadline.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

// Bytes on their way between two ranks before Send waits for the receiver.
constexpr int64_t kMailboxBytes = int64_t{64} << 20;

constexpr int kFewestSpins = 20;

// About 50-100 us of spinning before a rank sleeps: longer than an exchange between ranks that are
// in step. Useless when there are more ranks than cores.
int SpinsFor(int ranks) {
  return ranks <= static_cast<int>(std::thread::hardware_concurrency()) ? 2000 : kFewestSpins;
}

}  // namespace

LocalWorld::LocalWorld(int size, absl::Duration timeout)
    : timeout_(timeout), most_spins_(SpinsFor(size)), spins_(most_spins_) {}

void LocalWorld::Fail(int rank, absl::Status status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (failed_) return;
  failed_rank_ = rank;
  failure_ = std::move(status);
  failed_ = true;
  woken_.notify_all();
}

absl::Status LocalWorld::Result() {
  std::lock_guard<std::mutex> lock(mutex_);
  return failed_ ? NameRank(failed_rank_, failure_) : absl::OkStatus();
}

absl::Status LocalWorld::FailureLocked() const {
  return failed_ ? AbortedByRank(failed_rank_, failure_.message()) : absl::OkStatus();
}

// Spinning in vain is worse than useless when the ranks share a core with each other or with other
// processes: it then keeps them from what is waited for. So it is halved after each failure, and
// now and then tried in full.
bool LocalWorld::Spin(const std::function<bool()>& ready, bool until_failure) {
  constexpr unsigned kTryInFullEvery = 64;
  const bool in_full = waits_.fetch_add(1, std::memory_order_relaxed) % kTryInFullEvery == 0;
  const int spins = in_full ? most_spins_ : spins_.load(std::memory_order_relaxed);
  for (int i = 0; i < spins; ++i) {
    if (ready()) {
      spins_.store(most_spins_, std::memory_order_relaxed);
      return true;
    }
    if (until_failure && failed_.load(std::memory_order_relaxed)) return false;
    SpinPause();
  }
  spins_.store(std::max(kFewestSpins, spins / 2), std::memory_order_relaxed);
  return false;
}

absl::Status LocalWorld::Wait(const std::function<bool()>& ready,
                              const std::function<void()>& give_up,
                              const std::function<absl::Status()>& deadline_error) {
  const Deadline deadline(timeout_);
  if (Spin(ready, /*until_failure=*/true)) return absl::OkStatus();
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleepers_;
  while (!ready() && !failed_ && !deadline.Passed()) {
    woken_.wait_until(lock, deadline.NextLook());
  }
  --sleepers_;
  if (ready()) return absl::OkStatus();
  give_up();
  return failed_ ? FailureLocked() : deadline_error();
}

void LocalWorld::WaitAlways(const std::function<bool()>& ready) {
  if (Spin(ready, /*until_failure=*/false)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleepers_;
  woken_.wait(lock, ready);
  --sleepers_;
}

void LocalWorld::WakeLocked() {
  if (sleepers_ > 0) woken_.notify_all();
}

LocalGroup::LocalGroup(std::shared_ptr<LocalWorld> world, std::vector<int> world_ranks)
    : world_(std::move(world)),
      world_ranks_(std::move(world_ranks)),
      offers_(world_ranks_.size()),
      mailboxes_(world_ranks_.size() * world_ranks_.size()) {}

absl::Status LocalGroup::LateError(const char* operation, int rank) const {
  return DeadlineError(operation, world_ranks_[rank], world_ranks_, world_->timeout());
}

absl::Status LocalGroup::LateMessage(const char* operation, int rank, int peer) const {
  return DeadlineError(operation, world_ranks_[rank], {world_ranks_[rank], world_ranks_[peer]},
                       world_->timeout());
}

absl::Status LocalGroup::Arrive(int rank, const LocalOffer& offer) {
  uint64_t begun;
  {
    std::lock_guard<std::mutex> lock(world_->mutex());
    RETURN_IF_ERROR(world_->FailureLocked());
    if (broken_) return LateError(offer.operation, rank);
    offers_[rank] = offer;
    begun = meetings_begun_.load(std::memory_order_relaxed);
    if (++arrived_ == size()) {
      arrived_ = 0;
      meetings_begun_.store(begun + 1, std::memory_order_release);
      world_->WakeLocked();
      return absl::OkStatus();
    }
  }
  return world_->Wait([&] { return meetings_begun_.load(std::memory_order_acquire) != begun; },
                      [&] { broken_ = true; }, [&] { return LateError(offer.operation, rank); });
}

absl::Status LocalGroup::CheckWait(const Deadline& deadline, const char* operation, int rank) {
  std::lock_guard<std::mutex> lock(world_->mutex());
  RETURN_IF_ERROR(world_->FailureLocked());
  broken_ = broken_ || deadline.Passed();
  return broken_ ? LateError(operation, rank) : absl::OkStatus();
}

void LocalGroup::Leave() {
  uint64_t ended;
  {
    std::lock_guard<std::mutex> lock(world_->mutex());
    ended = meetings_ended_.load(std::memory_order_relaxed);
    if (++left_ == size()) {
      left_ = 0;
      meetings_ended_.store(ended + 1, std::memory_order_release);
      world_->WakeLocked();
      return;
    }
  }
  // Every rank is past Arrive and only moves memory: it will come, whatever has failed meanwhile.
  world_->WaitAlways([&] { return meetings_ended_.load(std::memory_order_acquire) != ended; });
}

absl::Status LocalGroup::CheckOffers() const {
  const LocalOffer& first = offers_[0];
  for (int r = 1; r < size(); ++r) {
    const LocalOffer& other = offers_[r];
    if (std::strcmp(first.operation, other.operation) != 0 || first.count != other.count ||
        first.dtype != other.dtype || first.root != other.root) {
      const auto text = [](const LocalOffer& offer) {
        return absl::StrCat(offer.operation, "(count ", offer.count, ", ", DTypeName(offer.dtype),
                            ", root ", offer.root, ")");
      };
      return absl::InternalError(absl::StrCat("the ranks make different calls: rank ",
                                              world_ranks_[0], " ", text(first), ", rank ",
                                              world_ranks_[r], " ", text(other)));
    }
  }
  return absl::OkStatus();
}

absl::Status LocalGroup::Meet(int rank, const LocalOffer& offer,
                              const std::function<void(const std::vector<LocalOffer>&)>& work) {
  RETURN_IF_ERROR(Arrive(rank, offer));
  const absl::Status same = CheckOffers();
  if (same.ok()) work(offers_);
  Leave();
  return same;
}

absl::Status LocalGroup::Put(int from, int to, const void* data, int64_t bytes) {
  Mailbox& box = Box(from, to);
  const auto has_room = [&] {
    const int64_t held = box.bytes.load(std::memory_order_acquire);
    return held == 0 || bytes <= kMailboxBytes - held;
  };
  RETURN_IF_ERROR(world_->Wait(
      has_room, [] {}, [&] { return LateMessage("Send", from, to); }));
  std::string message(static_cast<const char*>(data), bytes);
  std::lock_guard<std::mutex> lock(world_->mutex());
  RETURN_IF_ERROR(world_->FailureLocked());
  box.messages.push_back(std::move(message));
  box.bytes.fetch_add(bytes, std::memory_order_relaxed);
  box.posted.fetch_add(1, std::memory_order_release);
  world_->WakeLocked();
  return absl::OkStatus();
}

absl::Status LocalGroup::Take(int from, int to, void* data, int64_t bytes) {
  Mailbox& box = Box(from, to);
  const auto has_mail = [&] {
    return box.posted.load(std::memory_order_acquire) != box.taken.load(std::memory_order_relaxed);
  };
  RETURN_IF_ERROR(world_->Wait(
      has_mail, [] {}, [&] { return LateMessage("Receive", to, from); }));
  std::string message;
  {
    std::lock_guard<std::mutex> lock(world_->mutex());
    message = std::move(box.messages.front());
    box.messages.pop_front();
    box.taken.fetch_add(1, std::memory_order_relaxed);
    box.bytes.fetch_sub(static_cast<int64_t>(message.size()), std::memory_order_release);
    world_->WakeLocked();
  }
  if (static_cast<int64_t>(message.size()) != bytes) {
    return absl::InternalError(absl::StrCat("Receive on rank ", world_ranks_[to], ": wanted ",
                                            bytes, " bytes from rank ", world_ranks_[from],
                                            ", it sent ", message.size()));
  }
  if (bytes > 0) std::memcpy(data, message.data(), bytes);
  return absl::OkStatus();
}

std::shared_ptr<LocalGroup> LocalGroup::Join(absl::Span<const int> ranks) {
  std::lock_guard<std::mutex> lock(world_->mutex());
  auto found = std::find_if(splits_.begin(), splits_.end(),
                            [&](const PendingSplit& split) { return split.ranks == ranks; });
  if (found == splits_.end()) {
    std::vector<int> world_ranks;
    for (int r : ranks) world_ranks.push_back(world_ranks_[r]);
    found =
        splits_.insert(splits_.end(), {{ranks.begin(), ranks.end()},
                                       std::make_shared<LocalGroup>(world_, std::move(world_ranks)),
                                       0});
  }
  std::shared_ptr<LocalGroup> group = found->group;
  if (++found->joined == ranks.size()) splits_.erase(found);
  return group;
}

absl::StatusOr<std::shared_ptr<LocalGroup>> LocalGroup::Split(absl::Span<const int> ranks,
                                                              int new_rank) {
  std::shared_ptr<LocalGroup> group = Join(ranks);
  // All members leave together: a second Split with the same list is then another group.
  RETURN_IF_ERROR(
      group->Meet(new_rank, {.operation = "Split"}, [](const std::vector<LocalOffer>&) {}));
  return group;
}

}  // namespace tprun
