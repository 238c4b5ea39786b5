#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "comm/deadline.h"

namespace tprun {

// What all ranks of one RunLocalRanks share: the first failure, and the one place where they sleep.
// Thread-safe.
class LocalWorld {
 public:
  LocalWorld(int size, absl::Duration timeout);

  absl::Duration timeout() const { return timeout_; }
  std::mutex& mutex() { return mutex_; }

  // Records the failure of `rank` unless one is recorded, and wakes every waiting rank.
  void Fail(int rank, absl::Status status);
  // The first failure as RunLocalRanks returns it; OK when there is none.
  absl::Status Result();
  // What a waiting rank gets: OK or the error of AbortedByRank. Call with mutex() held.
  absl::Status FailureLocked() const;

  // Waits until ready() is true. On a failure or at the deadline calls give_up() with mutex() held
  // and ready() still false, and returns FailureLocked() or `deadline_error()`.
  absl::Status Wait(const std::function<bool()>& ready, const std::function<void()>& give_up,
                    const std::function<absl::Status()>& deadline_error);
  // Waits for what is certain to come soon, so also when the world has failed.
  void WaitAlways(const std::function<bool()>& ready);
  // Wakes the sleepers to look at their ready() again. Call with mutex() held.
  void WakeLocked();

 private:
  bool Spin(const std::function<bool()>& ready, bool until_failure);

  const absl::Duration timeout_;
  const int most_spins_;
  std::atomic<int> spins_;  // how long the next wait spins; follows what has paid lately
  std::atomic<unsigned> waits_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
  int sleepers_ = 0;
  std::atomic<bool> failed_{false};
  int failed_rank_ = -1;
  absl::Status failure_;
};

// What one rank brings to a collective operation. The operation, count, dtype and root must be the
// same on all ranks.
struct LocalOffer {
  const char* operation = "";
  int64_t count = 0;
  DType dtype = DType::kF32;
  int root = 0;
  const void* send = nullptr;
  void* receive = nullptr;
};

// The meeting place of one group of ranks; shared by their communicators.
class LocalGroup {
 public:
  LocalGroup(std::shared_ptr<LocalWorld> world, std::vector<int> world_ranks);

  LocalWorld& world() { return *world_; }
  int size() const { return static_cast<int>(world_ranks_.size()); }
  const std::vector<int>& world_ranks() const { return world_ranks_; }

  // Runs `work` on every rank once the offers of all are there, and returns when all have ended it,
  // so that no buffer is touched afterwards. Either all ranks run it or none does.
  absl::Status Meet(int rank, const LocalOffer& offer,
                    const std::function<void(const std::vector<LocalOffer>&)>& work);

  // For a wait of `rank` outside the world's that began with `deadline`: a failure of the world, or
  // that it has taken too long.
  absl::Status CheckWait(const Deadline& deadline, const char* operation, int rank);

  absl::Status Put(int from, int to, const void* data, int64_t bytes);
  absl::Status Take(int from, int to, void* data, int64_t bytes);

  // The group of some ranks of this one; the same object for each of them, once they all came.
  absl::StatusOr<std::shared_ptr<LocalGroup>> Split(absl::Span<const int> ranks, int new_rank);

 private:
  // Messages on their way from one rank to another.
  struct Mailbox {
    std::list<std::string> messages;  // guarded by the world's mutex
    std::atomic<int64_t> posted{0};
    std::atomic<int64_t> taken{0};
    std::atomic<int64_t> bytes{0};
  };
  struct PendingSplit {
    std::vector<int> ranks;
    std::shared_ptr<LocalGroup> group;
    int joined = 0;
  };

  absl::Status Arrive(int rank, const LocalOffer& offer);
  void Leave();
  absl::Status CheckOffers() const;
  absl::Status LateError(const char* operation, int rank) const;
  absl::Status LateMessage(const char* operation, int rank, int peer) const;
  Mailbox& Box(int from, int to) { return mailboxes_[from * size() + to]; }
  std::shared_ptr<LocalGroup> Join(absl::Span<const int> ranks);

  const std::shared_ptr<LocalWorld> world_;
  const std::vector<int> world_ranks_;
  // Guarded by the world's mutex, but read by all between Arrive and Leave.
  std::vector<LocalOffer> offers_;
  int arrived_ = 0;
  int left_ = 0;
  bool broken_ = false;  // a rank gave up waiting: the group can never be complete again
  std::atomic<uint64_t> meetings_begun_{0};
  std::atomic<uint64_t> meetings_ended_{0};
  std::vector<Mailbox> mailboxes_;  // [from, to]
  std::list<PendingSplit> splits_;
};

}  // namespace tprun
