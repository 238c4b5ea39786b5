#include "comm/local_communicator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/element_sum.h"
#include "comm/local_group.h"

namespace tprun {
namespace {

constexpr int kMostRanks = 256;

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<LocalGroup> group, int rank)
      : group_(std::move(group)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }
  absl::Duration timeout() const override { return group_->world().timeout(); }
  absl::string_view backend() const override { return "local"; }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  absl::StatusOr<std::unique_ptr<SharedParts>> ShareParts(int64_t floats) override;
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override;
  absl::Status Check() override;
  void Abort(const std::string& reason) override;

 private:
  const std::shared_ptr<LocalGroup> group_;
  const int rank_;
};

absl::Status LocalCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                             DType dtype) {
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", send, count));
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", receive, count));
  const LocalOffer offer = {"AllReduceSum", count, dtype, 0, send, receive};
  return group_->Meet(rank_, offer, [&](const std::vector<LocalOffer>& offers) {
    // Each rank sums one slice and writes it for all. Nobody else reads that slice, so in-place
    // sums are safe. Whole cache lines, so that no two ranks write to one.
    constexpr int64_t kLine = 64;
    const int64_t slice = (count / size() / kLine + 1) * kLine;
    const int64_t begin = std::min(count, rank_ * slice);
    std::vector<const void*> sources;
    std::vector<void*> results;
    for (const LocalOffer& other : offers) {
      sources.push_back(other.send);
      results.push_back(other.receive);
    }
    SumElements(sources, results, begin, std::min(count, begin + slice), dtype);
  });
}

// Pages are backed as they are written: each part on its owner's node.
std::shared_ptr<void> MapZeroed(int64_t bytes) {
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  return std::shared_ptr<void>(data, [bytes](void* mapped) { munmap(mapped, bytes); });
}

absl::StatusOr<std::unique_ptr<SharedParts>> LocalCommunicator::ShareParts(int64_t floats) {
  if (size() == 1) return nullptr;
  std::shared_ptr<void> memory;
  if (rank_ == 0) memory = MapZeroed(SharedParts::Bytes(size(), floats));
  LocalOffer offer = {.operation = "ShareParts", .count = floats, .send = &memory};
  std::shared_ptr<void> shared;
  RETURN_IF_ERROR(group_->Meet(rank_, offer, [&](const std::vector<LocalOffer>& offers) {
    shared = *static_cast<const std::shared_ptr<void>*>(offers[0].send);
  }));
  if (shared == nullptr) return nullptr;
  return std::make_unique<SharedParts>(std::move(shared), rank_, size(), floats, timeout(),
                                       [group = group_, rank = rank_](const Deadline& deadline) {
                                         return group->CheckWait(deadline, "AllReduceSum", rank);
                                       });
}

absl::Status LocalCommunicator::AllGather(const void* send, void* receive,
                                          absl::Span<const int64_t> counts, DType dtype) {
  RETURN_IF_ERROR(CheckAllGather(send, receive, counts, rank_, size(), dtype));
  uint64_t counts_digest = 0;  // tells two lists of counts apart
  for (int64_t count : counts) counts_digest = counts_digest * 1000003 + count;
  const LocalOffer offer = {"AllGather", static_cast<int64_t>(counts_digest), dtype, 0, send,
                            receive};
  return group_->Meet(rank_, offer, [&](const std::vector<LocalOffer>& offers) {
    char* to = static_cast<char*>(receive);
    for (int r = 0; r < size(); ++r) {
      const int64_t bytes = counts[r] * static_cast<int64_t>(SizeOf(dtype));
      if (bytes > 0 && to != offers[r].send) std::memcpy(to, offers[r].send, bytes);
      to += bytes;
    }
  });
}

absl::Status LocalCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  RETURN_IF_ERROR(CheckBuffer("Broadcast", data, bytes));
  RETURN_IF_ERROR(CheckRank("Broadcast", root, size()));
  const LocalOffer offer = {"Broadcast", bytes, DType::kF32, root, data, data};
  return group_->Meet(rank_, offer, [&](const std::vector<LocalOffer>& offers) {
    if (rank_ != root && bytes > 0) std::memcpy(data, offers[root].send, bytes);
  });
}

absl::Status LocalCommunicator::Send(const void* data, int64_t bytes, int to) {
  RETURN_IF_ERROR(CheckBuffer("Send", data, bytes));
  RETURN_IF_ERROR(CheckRank("Send", to, size()));
  return group_->Put(rank_, to, data, bytes);
}

absl::Status LocalCommunicator::Receive(void* data, int64_t bytes, int from) {
  RETURN_IF_ERROR(CheckBuffer("Receive", data, bytes));
  RETURN_IF_ERROR(CheckRank("Receive", from, size()));
  return group_->Take(from, rank_, data, bytes);
}

absl::Status LocalCommunicator::Barrier() {
  return group_->Meet(rank_, {.operation = "Barrier"}, [](const std::vector<LocalOffer>&) {});
}

absl::StatusOr<std::unique_ptr<Communicator>> LocalCommunicator::Split(
    absl::Span<const int> ranks) {
  RETURN_IF_ERROR(CheckSplit(ranks, rank_, size()));
  const int rank = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin());
  ASSIGN_OR_RETURN(std::shared_ptr<LocalGroup> group, group_->Split(ranks, rank));
  return std::make_unique<LocalCommunicator>(std::move(group), rank);
}

absl::Status LocalCommunicator::Check() {
  LocalWorld& world = group_->world();
  std::lock_guard<std::mutex> lock(world.mutex());
  return world.FailureLocked();
}

void LocalCommunicator::Abort(const std::string& reason) {
  group_->world().Fail(group_->world_ranks()[rank_], absl::AbortedError(reason));
}

// The body as a Status, whatever it throws.
absl::Status RunBody(const std::function<absl::Status(Communicator&)>& body,
                     LocalCommunicator& comm) {
  try {
    return body(comm);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("exception: ", e.what()));
  } catch (...) {
    return absl::InternalError("an exception of an unknown type");
  }
}

void RunRank(const std::function<absl::Status(Communicator&)>& body,
             const std::shared_ptr<LocalGroup>& group, int rank) {
  LocalCommunicator comm(group, rank);
  absl::Status status = RunBody(body, comm);
  if (!status.ok()) group->world().Fail(rank, std::move(status));
}

}  // namespace

absl::Status RunLocalRanks(int world_size, absl::Duration timeout,
                           const std::function<absl::Status(Communicator&)>& body) {
  if (world_size < 1 || world_size > kMostRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted 1 to ", kMostRanks, " ranks as threads, found ", world_size));
  }
  auto world = std::make_shared<LocalWorld>(world_size, timeout);
  std::vector<int> ranks(world_size);
  for (int r = 0; r < world_size; ++r) ranks[r] = r;
  auto group = std::make_shared<LocalGroup>(world, std::move(ranks));

  std::vector<std::thread> threads;
  for (int r = 0; r < world_size; ++r) {
    try {
      threads.emplace_back([&body, &group, r] { RunRank(body, group, r); });
    } catch (const std::system_error& e) {
      world->Fail(r, absl::ResourceExhaustedError(
                         absl::StrCat("the system gives no thread for this rank: ", e.what())));
      break;
    }
  }
  for (std::thread& thread : threads) thread.join();
  return world->Result();
}

}  // namespace tprun
