#include "tests/comm/process_ranks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/deadline.h"
#include "comm/element_sum.h"

namespace tprun {
namespace {

constexpr int kMostRanks = 16;
constexpr size_t kTextBytes = 2000;

// Seen by all processes.
struct SharedWorld {
  std::atomic<int> aborted_by{-1};
  char reason[kTextBytes] = {};
  struct Result {
    int code = -1;  // none yet
    char message[kTextBytes] = {};
  } results[kMostRanks];
};

void CopyText(absl::string_view from, char (&to)[kTextBytes]) {
  const size_t size = std::min(from.size(), kTextBytes - 1);
  std::memcpy(to, from.data(), size);
  to[size] = '\0';
}

// What the communicators of one process share.
struct ProcessWorld {
  SharedWorld* shared = nullptr;
  int rank = 0;
  absl::Duration timeout;
  std::vector<int> sockets;  // [world size], -1 for itself
  std::string to_itself;     // messages of the rank to itself
};

class ProcessCommunicator final : public Communicator {
 public:
  ProcessCommunicator(ProcessWorld& world, std::vector<int> world_ranks)
      : world_(world), world_ranks_(std::move(world_ranks)) {
    rank_ = static_cast<int>(std::find(world_ranks_.begin(), world_ranks_.end(), world_.rank) -
                             world_ranks_.begin());
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }
  absl::Duration timeout() const override { return world_.timeout; }
  absl::string_view backend() const override { return "process"; }
  bool buffers_sends() const override { return false; }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override {
    float nothing = 0;
    return AllReduceSum(&nothing, &nothing, 1, DType::kF32);
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override {
    RETURN_IF_ERROR(CheckSplit(ranks, rank_, size()));
    std::vector<int> world_ranks;
    for (int r : ranks) world_ranks.push_back(world_ranks_[r]);
    auto group = std::make_unique<ProcessCommunicator>(world_, std::move(world_ranks));
    RETURN_IF_ERROR(group->Barrier());  // all of them come
    return group;
  }
  absl::Status Check() override {
    const int by = world_.shared->aborted_by.load(std::memory_order_acquire);
    return by < 0 ? absl::OkStatus() : AbortedByRank(by, world_.shared->reason);
  }
  void Abort(const std::string& reason) override {
    if (world_.shared->aborted_by >= 0) return;
    CopyText(reason, world_.shared->reason);
    world_.shared->aborted_by.store(world_.rank, std::memory_order_release);
  }

 private:
  // Moves bytes with `move(socket, done)`, which returns what read or write does.
  template <typename Move>
  absl::Status Transfer(const char* operation, int peer, int64_t bytes, short event,
                        const Move& move);

  ProcessWorld& world_;
  const std::vector<int> world_ranks_;
  int rank_ = 0;
};

template <typename Move>
absl::Status ProcessCommunicator::Transfer(const char* operation, int peer, int64_t bytes,
                                           short event, const Move& move) {
  const int socket = world_.sockets[world_ranks_[peer]];
  const Deadline deadline(timeout());
  int64_t done = 0;
  while (true) {
    RETURN_IF_ERROR(Check());
    if (done >= bytes) return absl::OkStatus();
    if (deadline.Passed()) {
      return DeadlineError(operation, world_.rank, {world_.rank, world_ranks_[peer]}, timeout());
    }
    pollfd ready = {socket, event, 0};
    if (poll(&ready, 1, /*ms=*/5) <= 0) continue;
    const ssize_t moved = move(socket, done);
    if (moved > 0) {
      done += moved;
    } else if (moved == 0 || (errno != EAGAIN && errno != EINTR)) {
      RETURN_IF_ERROR(Check());  // it told why
      return absl::UnavailableError(absl::StrCat("rank ", world_ranks_[peer], " has gone"));
    }
  }
}

absl::Status ProcessCommunicator::Send(const void* data, int64_t bytes, int to) {
  RETURN_IF_ERROR(CheckBuffer("Send", data, bytes));
  RETURN_IF_ERROR(CheckRank("Send", to, size()));
  const char* from = static_cast<const char*>(data);
  if (to == rank_) {
    world_.to_itself.append(from, bytes);
    return Check();
  }
  return Transfer("Send", to, bytes, POLLOUT, [&](int socket, int64_t done) {
    return send(socket, from + done, bytes - done, MSG_DONTWAIT | MSG_NOSIGNAL);
  });
}

absl::Status ProcessCommunicator::Receive(void* data, int64_t bytes, int from) {
  RETURN_IF_ERROR(CheckBuffer("Receive", data, bytes));
  RETURN_IF_ERROR(CheckRank("Receive", from, size()));
  char* to = static_cast<char*>(data);
  if (from == rank_) {
    const Deadline deadline(timeout());
    while (static_cast<int64_t>(world_.to_itself.size()) < bytes) {
      RETURN_IF_ERROR(Check());
      if (deadline.Passed()) return DeadlineError("Receive", world_.rank, {world_.rank}, timeout());
      absl::SleepFor(absl::Milliseconds(1));
    }
    if (bytes > 0) std::memcpy(to, world_.to_itself.data(), bytes);
    world_.to_itself.erase(0, bytes);
    return Check();
  }
  return Transfer("Receive", from, bytes, POLLIN, [&](int socket, int64_t done) {
    return recv(socket, to + done, bytes - done, MSG_DONTWAIT);
  });
}

absl::Status ProcessCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  RETURN_IF_ERROR(CheckBuffer("Broadcast", data, bytes));
  RETURN_IF_ERROR(CheckRank("Broadcast", root, size()));
  if (rank_ != root) return Receive(data, bytes, root);
  for (int r = 0; r < size(); ++r) {
    if (r != root) RETURN_IF_ERROR(Send(data, bytes, r));
  }
  return absl::OkStatus();
}

absl::Status ProcessCommunicator::AllGather(const void* send, void* receive,
                                            absl::Span<const int64_t> counts, DType dtype) {
  RETURN_IF_ERROR(CheckAllGather(send, receive, counts, rank_, size(), dtype));
  char* to = static_cast<char*>(receive);
  for (int r = 0; r < size(); ++r) {
    const int64_t bytes = counts[r] * static_cast<int64_t>(SizeOf(dtype));
    if (r == rank_ && bytes > 0 && to != send) std::memcpy(to, send, bytes);
    if (bytes > 0) RETURN_IF_ERROR(Broadcast(to, bytes, r));
    to += bytes;
  }
  return absl::OkStatus();
}

absl::Status ProcessCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                               DType dtype) {
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", send, count));
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", receive, count));
  const int64_t bytes = count * static_cast<int64_t>(SizeOf(dtype));
  if (rank_ > 0) {
    RETURN_IF_ERROR(Send(send, bytes, 0));
  } else {
    if (bytes > 0 && send != receive) std::memcpy(receive, send, bytes);
    std::vector<char> part(bytes + 1);
    for (int r = 1; r < size(); ++r) {
      RETURN_IF_ERROR(Receive(part.data(), bytes, r));
      AddElements(part.data(), receive, count, dtype);
    }
  }
  return Broadcast(receive, bytes, 0);
}

void RunChild(ProcessWorld& world, const std::function<absl::Status(Communicator&)>& body) {
  std::vector<int> everyone(world.sockets.size());
  std::iota(everyone.begin(), everyone.end(), 0);
  ProcessCommunicator comm(world, everyone);
  const absl::Status status = body(comm);
  SharedWorld::Result& result = world.shared->results[world.rank];
  CopyText(std::string(status.message()), result.message);
  result.code = static_cast<int>(status.code());
  if (!status.ok()) comm.Abort(std::string(status.message()));
}

absl::Status ResultOf(const SharedWorld& shared, int world_size) {
  absl::Status ended_by_another;
  for (int r = 0; r < world_size; ++r) {
    const SharedWorld::Result& result = shared.results[r];
    if (result.code < 0)
      return absl::InternalError(absl::StrCat("rank ", r, " ended with no result"));
    const absl::Status status(static_cast<absl::StatusCode>(result.code), result.message);
    if (status.ok()) continue;
    if (!IsAbortedByRank(status)) return NameRank(r, status);
    ended_by_another = status;
  }
  const int by = shared.aborted_by;
  return by >= 0 ? NameRank(by, absl::AbortedError(shared.reason)) : ended_by_another;
}

// Waits for the processes, and ends those that do not end.
void Reap(const std::vector<pid_t>& children, absl::Duration patience) {
  const Deadline deadline(patience);
  for (pid_t child : children) {
    while (waitpid(child, nullptr, WNOHANG) == 0) {
      if (deadline.Passed()) kill(child, SIGKILL);
      absl::SleepFor(absl::Milliseconds(2));
    }
  }
}

}  // namespace

absl::Status RunProcessRanks(int world_size, absl::Duration timeout,
                             const std::function<absl::Status(Communicator&)>& body) {
  if (world_size < 1 || world_size > kMostRanks) return absl::InvalidArgumentError("world size");
  void* memory =
      mmap(nullptr, sizeof(SharedWorld), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return absl::InternalError("no shared memory");
  SharedWorld& shared = *new (memory) SharedWorld;
  std::vector<std::vector<int>> sockets(world_size, std::vector<int>(world_size, -1));
  for (int a = 0; a < world_size; ++a) {
    for (int b = 0; b < a; ++b) {
      int pair[2];
      if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return absl::InternalError("no sockets");
      sockets[a][b] = pair[0];
      sockets[b][a] = pair[1];
    }
  }
  std::vector<pid_t> children;
  for (int r = 0; r < world_size; ++r) {
    const pid_t child = fork();
    if (child == 0) {
      for (int other = 0; other < world_size; ++other) {  // so that a rank's end shows
        for (int socket : sockets[other]) {
          if (other != r && socket >= 0) close(socket);
        }
      }
      ProcessWorld world = {&shared, r, timeout, sockets[r], ""};
      RunChild(world, body);
      _exit(0);
    }
    children.push_back(child);
  }
  for (const std::vector<int>& row : sockets) {
    for (int socket : row) {
      if (socket >= 0) close(socket);
    }
  }
  Reap(children, 3 * timeout);
  const absl::Status status = ResultOf(shared, world_size);
  munmap(memory, sizeof(SharedWorld));
  return status;
}

}  // namespace tprun
