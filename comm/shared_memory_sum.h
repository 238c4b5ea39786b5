#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"

namespace tprun {

// Memory of a host that several processes map, by a name in /dev/shm. Its creator removes the name
// as soon as all have it, so that nothing is left behind however they end.
class SharedMemory {
 public:
  // Zeroed and backed by real memory: ResourceExhausted where there is not enough.
  static absl::StatusOr<SharedMemory> Create(const std::string& name, int64_t bytes);
  static absl::StatusOr<SharedMemory> Open(const std::string& name, int64_t bytes);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  void* data() const { return data_; }
  void RemoveName();  // of the creator; also done at the end

 private:
  SharedMemory(std::string name, void* data, int64_t bytes)
      : name_(std::move(name)), data_(data), bytes_(bytes) {}
  static absl::StatusOr<SharedMemory> Map(const std::string& name, int file, int64_t bytes);

  std::string name_;  // empty: nothing to remove
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// An all-reduce of ranks that share memory. Each rank has two slots that it fills in turn; a
// sequence number tells the others, who spin on it for a moment and then sleep on it (futex), which
// is the only wait that is short on idle cores, on busy ones and on too few. All add the slots up
// in the order of the ranks, so they get the same bits; large sums of more than two ranks are
// shared out.
//
//   ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Create(name, SharedMemorySum::Bytes(2)));
//   SharedMemorySum sum(memory.data(), rank, 2);
//   RETURN_IF_ERROR(sum.Run(x, x, count, DType::kF32, [&] { return CheckDeadline(); }));
class SharedMemorySum {
 public:
  static int64_t Bytes(int ranks);

  // `memory` is zeroed, the same on all ranks, and outlives it.
  SharedMemorySum(void* memory, int rank, int ranks);

  // As Communicator::AllReduceSum, with a count of at least 1. While it waits it calls `check`
  // every few milliseconds and ends with its error.
  absl::Status Run(const void* send, void* receive, int64_t count, DType dtype,
                   const std::function<absl::Status()>& check);

 private:
  struct Header;
  absl::Status Piece(const char* send, char* receive, int64_t count, DType dtype,
                     const std::function<absl::Status()>& check);
  absl::Status Meet(const std::function<absl::Status()>& check);
  Header& header(int rank) const;
  char* slot(int rank) const;  // of the piece that is under way
  char* result() const;

  char* const memory_;
  const int rank_;
  const int ranks_;
  uint32_t pieces_ = 0;
  uint32_t meetings_ = 0;
};

}  // namespace tprun
