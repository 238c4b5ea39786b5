#include "comm/mpi_communicator_impl.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"

namespace tprun {
namespace {

// MPI counts are ints, and its all-reduce needs temporary memory: larger calls go in pieces.
constexpr int64_t kMostElements = int64_t{1} << 24;
constexpr int64_t kMostBytes = int64_t{1} << 28;
constexpr int64_t kMostInt = std::numeric_limits<int>::max();

MPI_Datatype TypeOf(DType dtype) { return dtype == DType::kF32 ? MPI_FLOAT : MPI_UINT16_T; }

// Send and Receive use tag 0. MPI promises tags up to 32767.
int SplitTag(absl::Span<const int> ranks) {
  uint32_t digest = 0;
  for (int rank : ranks) digest = digest * 1000003 + static_cast<uint32_t>(rank);
  return static_cast<int>(1 + digest % 32766);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiCommunicator>> MpiCommunicator::MakeWorld(
    std::shared_ptr<MpiState> state) {
  MPI_Comm comm;
  RETURN_IF_ERROR(state->Run("MPI_Comm_dup", [&] { return MPI_Comm_dup(MPI_COMM_WORLD, &comm); }));
  std::vector<int> everyone(state->world_size());
  for (int r = 0; r < state->world_size(); ++r) everyone[r] = r;
  const int rank = state->world_rank();
  return std::make_unique<MpiCommunicator>(std::move(state), comm, rank, std::move(everyone));
}

template <typename Start>
absl::Status MpiCommunicator::RunAndWait(const char* operation, const Start& start) {
  MPI_Request request = MPI_REQUEST_NULL;
  RETURN_IF_ERROR(state_->Run(operation, [&] { return start(&request); }));
  return state_->Wait(absl::MakeSpan(&request, 1), operation, world_ranks_);
}

absl::Status MpiCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                           DType dtype) {
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", send, count));
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", receive, count));
  if (!tried_to_share_ && size() > 1) RETURN_IF_ERROR(ShareMemory());
  if (!shared_sum_.has_value() || count == 0) return SumByMpi(send, receive, count, dtype);
  const Deadline deadline(state_->timeout());
  // MPI moves large messages to other hosts only while it is called.
  RETURN_IF_ERROR(state_->DropSent());
  RETURN_IF_ERROR(shared_sum_->Run(send, receive, count, dtype, [&]() -> absl::Status {
    RETURN_IF_ERROR(state_->DropSent());
    return state_->CheckWait(deadline, "AllReduceSum", world_ranks_);
  }));
  return state_->DropSent();
}

absl::StatusOr<std::optional<SharedMemory>> MpiCommunicator::MapTogether(
    int64_t bytes, const std::function<absl::Status(SharedMemory&)>& reserve) {
  std::array<char, 64> name = {};  // empty: the first rank could not make it
  absl::StatusOr<SharedMemory> memory = absl::UnavailableError("not made");
  if (rank_ == 0) {
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    const std::string wanted = absl::StrCat("/tprun-", getpid(), "-", now);
    memory = SharedMemory::CreateUnreserved(wanted, bytes);
    if (memory.ok()) std::copy(wanted.begin(), wanted.end(), name.begin());
  }
  RETURN_IF_ERROR(RunAndWait("AllReduceSum", [&](MPI_Request* request) {
    return MPI_Ibcast(name.data(), static_cast<int>(name.size()), MPI_BYTE, 0, comm_, request);
  }));
  if (rank_ != 0 && name[0] != 0) memory = SharedMemory::Open(name.data(), bytes);
  int can = memory.ok() && reserve(*memory).ok() ? 1 : 0;
  RETURN_IF_ERROR(RunAndWait("AllReduceSum", [&](MPI_Request* request) {
    return MPI_Iallreduce(MPI_IN_PLACE, &can, 1, MPI_INT, MPI_MIN, comm_, request);
  }));
  if (can == 0) return std::nullopt;
  memory->RemoveName();
  return std::optional<SharedMemory>(*std::move(memory));
}

absl::Status MpiCommunicator::ShareMemory() {
  tried_to_share_ = true;
  const int64_t bytes = SharedMemorySum::Bytes(size());
  ASSIGN_OR_RETURN(shared_memory_, MapTogether(bytes, [&](SharedMemory& memory) {
                     return rank_ == 0 ? memory.Reserve(0, bytes) : absl::OkStatus();
                   }));
  if (shared_memory_.has_value()) shared_sum_.emplace(shared_memory_->data(), rank_, size());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SharedParts>> MpiCommunicator::ShareParts(int64_t floats) {
  if (size() == 1) return nullptr;
  const auto begin = [&](int rank) { return SharedParts::PartBegin(rank, size(), floats); };
  ASSIGN_OR_RETURN(std::optional<SharedMemory> memory,
                   MapTogether(begin(size()), [&](SharedMemory& mapped) -> absl::Status {
                     if (rank_ == 0) RETURN_IF_ERROR(mapped.Reserve(0, begin(0)));
                     return mapped.Reserve(begin(rank_), begin(rank_ + 1) - begin(rank_));
                   }));
  if (!memory.has_value()) return nullptr;
  auto kept = std::make_shared<SharedMemory>(*std::move(memory));
  return std::make_unique<SharedParts>(
      std::shared_ptr<void>(kept, kept->data()), rank_, size(), floats, timeout(),
      [state = state_, group = world_ranks_](const Deadline& deadline) -> absl::Status {
        RETURN_IF_ERROR(state->DropSent());
        return state->CheckWait(deadline, "AllReduceSum", group);
      });
}

absl::Status MpiCommunicator::SumByMpi(const void* send, void* receive, int64_t count,
                                       DType dtype) {
  const int64_t element_bytes = static_cast<int64_t>(SizeOf(dtype));
  int64_t done = 0;
  do {  // also once for a count of 0: the ranks meet
    const int piece = static_cast<int>(std::min(count - done, kMostElements));
    const char* from = static_cast<const char*>(send) + done * element_bytes;
    char* to = static_cast<char*>(receive) + done * element_bytes;
    RETURN_IF_ERROR(RunAndWait("AllReduceSum", [&](MPI_Request* request) {
      if (piece == 0) return MPI_Ibarrier(comm_, request);
      return MPI_Iallreduce(send == receive ? MPI_IN_PLACE : from, to, piece, TypeOf(dtype),
                            state_->SumOp(dtype), comm_, request);
    }));
    done += piece;
  } while (done < count);
  return absl::OkStatus();
}

absl::Status MpiCommunicator::AllGather(const void* send, void* receive,
                                        absl::Span<const int64_t> counts, DType dtype) {
  RETURN_IF_ERROR(CheckAllGather(send, receive, counts, rank_, size(), dtype));
  const int64_t element_bytes = static_cast<int64_t>(SizeOf(dtype));
  int64_t total = 0;
  for (int64_t count : counts) total += count;
  if (total == 0) return Barrier();
  char* const to = static_cast<char*>(receive);
  if (total > kMostInt) return GatherByBroadcasts(send, to, counts, element_bytes);

  std::vector<int> sizes(counts.begin(), counts.end());
  std::vector<int> places(counts.size(), 0);
  for (int r = 1; r < size(); ++r) places[r] = places[r - 1] + sizes[r - 1];
  const bool in_place = send == to + places[rank_] * element_bytes;
  return RunAndWait("AllGather", [&](MPI_Request* request) {
    return MPI_Iallgatherv(in_place ? MPI_IN_PLACE : send, sizes[rank_], TypeOf(dtype), receive,
                           sizes.data(), places.data(), TypeOf(dtype), comm_, request);
  });
}

absl::Status MpiCommunicator::GatherByBroadcasts(const void* send, char* receive,
                                                 absl::Span<const int64_t> counts,
                                                 int64_t element_bytes) {
  for (int r = 0; r < size(); ++r) {
    const int64_t bytes = counts[r] * element_bytes;
    if (r == rank_ && bytes > 0 && send != receive) std::memcpy(receive, send, bytes);
    RETURN_IF_ERROR(Broadcast(receive, bytes, r));
    receive += bytes;
  }
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  RETURN_IF_ERROR(CheckBuffer("Broadcast", data, bytes));
  RETURN_IF_ERROR(CheckRank("Broadcast", root, size()));
  int64_t done = 0;
  do {
    const int piece = static_cast<int>(std::min(bytes - done, kMostBytes));
    RETURN_IF_ERROR(RunAndWait("Broadcast", [&](MPI_Request* request) {
      if (piece == 0) return MPI_Ibarrier(comm_, request);
      return MPI_Ibcast(static_cast<char*>(data) + done, piece, MPI_BYTE, root, comm_, request);
    }));
    done += piece;
  } while (done < bytes);
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Send(const void* data, int64_t bytes, int to) {
  RETURN_IF_ERROR(CheckBuffer("Send", data, bytes));
  RETURN_IF_ERROR(CheckRank("Send", to, size()));
  int64_t done = 0;
  do {
    const int piece = static_cast<int>(std::min(bytes - done, kMostBytes));
    RETURN_IF_ERROR(state_->SendBuffered(comm_, static_cast<const char*>(data) + done, piece, to,
                                         world_ranks_));
    done += piece;
  } while (done < bytes);
  return absl::OkStatus();
}

absl::Status MpiCommunicator::ReceivePiece(void* data, int bytes, int from) {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Status status;
  int received = 0;
  RETURN_IF_ERROR(state_->Run(
      "MPI_Irecv", [&] { return MPI_Irecv(data, bytes, MPI_BYTE, from, 0, comm_, &request); }));
  RETURN_IF_ERROR(state_->Wait(absl::MakeSpan(&request, 1), "Receive",
                               {world_ranks_[rank_], world_ranks_[from]}, &status));
  RETURN_IF_ERROR(
      state_->Run("MPI_Get_count", [&] { return MPI_Get_count(&status, MPI_BYTE, &received); }));
  if (received == bytes) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("Receive on rank ", state_->world_rank(), ": wanted ",
                                          bytes, " bytes from rank ", world_ranks_[from],
                                          ", it sent ", received));
}

absl::Status MpiCommunicator::Receive(void* data, int64_t bytes, int from) {
  RETURN_IF_ERROR(CheckBuffer("Receive", data, bytes));
  RETURN_IF_ERROR(CheckRank("Receive", from, size()));
  int64_t done = 0;
  do {
    const int piece = static_cast<int>(std::min(bytes - done, kMostBytes));
    RETURN_IF_ERROR(ReceivePiece(static_cast<char*>(data) + done, piece, from));
    done += piece;
  } while (done < bytes);
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Barrier() {
  return RunAndWait("Barrier", [&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
}

// MPI_Comm_create_group has no deadline. It is called only once all members are known to be here:
// each sends an empty message to the first, which answers each.
absl::Status MpiCommunicator::MeetForSplit(absl::Span<const int> ranks, int tag) {
  const bool leads = ranks[0] == rank_;
  for (const bool calling : {true, false}) {
    std::vector<MPI_Request> requests;
    for (int other : leads ? ranks.subspan(1) : ranks.subspan(0, 1)) {
      requests.push_back(MPI_REQUEST_NULL);
      RETURN_IF_ERROR(state_->Run("Split", [&] {
        return leads == calling
                   ? MPI_Irecv(nullptr, 0, MPI_BYTE, other, tag, comm_, &requests.back())
                   : MPI_Isend(nullptr, 0, MPI_BYTE, other, tag, comm_, &requests.back());
      }));
    }
    RETURN_IF_ERROR(state_->Wait(absl::MakeSpan(requests), "Split", world_ranks_));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Communicator>> MpiCommunicator::Split(absl::Span<const int> ranks) {
  RETURN_IF_ERROR(CheckSplit(ranks, rank_, size()));
  const int tag = SplitTag(ranks);
  RETURN_IF_ERROR(MeetForSplit(ranks, tag));
  MPI_Comm comm = MPI_COMM_NULL;
  RETURN_IF_ERROR(state_->Run("MPI_Comm_create_group", [&] {
    MPI_Group all;
    MPI_Group group;
    int code = MPI_Comm_group(comm_, &all);
    if (code != MPI_SUCCESS) return code;
    code = MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &group);
    MPI_Group_free(&all);
    if (code != MPI_SUCCESS) return code;
    code = MPI_Comm_create_group(comm_, group, tag, &comm);
    MPI_Group_free(&group);
    return code == MPI_SUCCESS ? MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN) : code;
  }));
  std::vector<int> world_ranks;
  for (int r : ranks) world_ranks.push_back(world_ranks_[r]);
  const int rank = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin());
  return std::make_unique<MpiCommunicator>(state_, comm, rank, std::move(world_ranks));
}

}  // namespace tprun
