#include "comm/shared_memory_sum.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/element_sum.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

constexpr int64_t kSlotBytes = 256 << 10;  // two slots of two ranks stay in L2
constexpr int64_t kPage = 4096;
// From which a sum of more than two ranks is shared out: half the reading, one meeting more.
constexpr int64_t kShareFromBytes = 32 << 10;
constexpr int kSpins = 2000;
constexpr timespec kLook = {0, 5'000'000};  // how long a sleep lasts at most

absl::Status SystemError(const char* what, const std::string& name, int error) {
  return absl::ResourceExhaustedError(absl::StrCat(what, " ", name, ": ", std::strerror(error)));
}

// Shared between processes, so not the private kind. Wrong wake-ups are the caller's to see.
void SleepWhile(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &kLook, nullptr, 0);
}
void WakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

absl::StatusOr<SharedMemory> SharedMemory::Map(const std::string& name, int file, int64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int error = errno;
  close(file);
  if (data == MAP_FAILED) return SystemError("mmap of", name, error);
  return SharedMemory("", data, bytes);
}

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& name, int64_t bytes) {
  const int file = shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) return SystemError("shm_open of", name, errno);
  // Not ftruncate: a full /dev/shm would then kill the process at its first write.
  const int error = posix_fallocate(file, 0, bytes);
  if (error != 0) {
    close(file);
    shm_unlink(name.c_str());
    return SystemError("no room in /dev/shm for", name, error);
  }
  absl::StatusOr<SharedMemory> memory = Map(name, file, bytes);
  if (memory.ok()) {
    memory->name_ = name;
  } else {
    shm_unlink(name.c_str());
  }
  return memory;
}

absl::StatusOr<SharedMemory> SharedMemory::Open(const std::string& name, int64_t bytes) {
  const int file = shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
  if (file < 0) return SystemError("shm_open of", name, errno);
  struct stat info = {};
  if (fstat(file, &info) != 0 || info.st_size < bytes) {
    close(file);
    return absl::ResourceExhaustedError(absl::StrCat(name, " is smaller than ", bytes, " bytes"));
  }
  return Map(name, file, bytes);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : name_(std::exchange(other.name_, "")),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void SharedMemory::RemoveName() {
  if (!name_.empty()) shm_unlink(name_.c_str());
  name_.clear();
}

SharedMemory::~SharedMemory() {
  RemoveName();
  if (data_ != nullptr) munmap(data_, bytes_);
}

// One per rank, on a page of its own.
struct SharedMemorySum::Header {
  alignas(64) std::atomic<uint32_t> met;  // meetings that the rank has come to
  alignas(64) std::atomic<uint32_t> sleepers;
  alignas(64) int64_t bytes[2];  // in its slots: the ranks must agree
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

// Headers, slots, results.
int64_t SharedMemorySum::Bytes(int ranks) {
  return ranks * kPage + 2 * kSlotBytes * ranks + 2 * kSlotBytes;
}

SharedMemorySum::SharedMemorySum(void* memory, int rank, int ranks)
    : memory_(static_cast<char*>(memory)), rank_(rank), ranks_(ranks) {
  static_assert(sizeof(Header) <= kPage);
}

SharedMemorySum::Header& SharedMemorySum::header(int rank) const {
  return *reinterpret_cast<Header*>(memory_ + rank * kPage);
}
char* SharedMemorySum::slot(int rank) const {
  return memory_ + ranks_ * kPage + (2 * rank + pieces_ % 2) * kSlotBytes;
}
char* SharedMemorySum::result() const {
  return memory_ + ranks_ * kPage + (2 * ranks_ + pieces_ % 2) * kSlotBytes;
}

// Tells the others that this rank is here, and waits until they are. The number of the meeting and
// of the sleepers are sequentially consistent: a sleeper sees the one or is seen as the other.
absl::Status SharedMemorySum::Meet(const std::function<absl::Status()>& check) {
  const uint32_t meeting = ++meetings_;
  Header& own = header(rank_);
  own.met.store(meeting);
  if (own.sleepers.load() != 0) WakeAll(own.met);
  const auto is_here = [meeting](uint32_t met) { return static_cast<int32_t>(met - meeting) >= 0; };
  for (int r = 0; r < ranks_; ++r) {
    Header& other = header(r);
    for (int spin = 0; spin < kSpins && !is_here(other.met.load(std::memory_order_acquire));
         ++spin) {
      SpinPause();
    }
    while (!is_here(other.met.load(std::memory_order_acquire))) {
      other.sleepers.fetch_add(1);
      const uint32_t met = other.met.load();
      if (!is_here(met)) SleepWhile(other.met, met);
      other.sleepers.fetch_sub(1);
      if (is_here(other.met.load(std::memory_order_acquire))) break;
      RETURN_IF_ERROR(check());
    }
  }
  return absl::OkStatus();
}

// A slot is filled again two pieces later: all have then come to the piece between, so they are
// done with this one.
absl::Status SharedMemorySum::Piece(const char* send, char* receive, int64_t count, DType dtype,
                                    const std::function<absl::Status()>& check) {
  const auto element = static_cast<int64_t>(SizeOf(dtype));
  const int64_t bytes = count * element;
  ++pieces_;
  header(rank_).bytes[pieces_ % 2] = bytes;
  std::memcpy(slot(rank_), send, bytes);
  RETURN_IF_ERROR(Meet(check));
  std::vector<const void*> sources;
  for (int r = 0; r < ranks_; ++r) {
    const int64_t theirs = header(r).bytes[pieces_ % 2];
    if (theirs != bytes) {
      return absl::InternalError(absl::StrCat("AllReduceSum: rank ", rank_, " of the group gave ",
                                              bytes, " bytes, rank ", r, " ", theirs));
    }
    // Its own part is still in its cache; a result over it is written behind what was read.
    sources.push_back(r == rank_ ? static_cast<const void*>(send) : slot(r));
  }
  if (ranks_ == 2 || bytes < kShareFromBytes) {
    SumElements(sources, {receive}, 0, count, dtype);
    return absl::OkStatus();
  }
  const int64_t line = 64 / element;  // no two ranks write to one
  const int64_t share = (count / ranks_ / line + 1) * line;
  const int64_t begin = std::min(count, rank_ * share);
  SumElements(sources, {result()}, begin, std::min(count, begin + share), dtype);
  RETURN_IF_ERROR(Meet(check));
  std::memcpy(receive, result(), bytes);
  return absl::OkStatus();
}

absl::Status SharedMemorySum::Run(const void* send, void* receive, int64_t count, DType dtype,
                                  const std::function<absl::Status()>& check) {
  const auto element = static_cast<int64_t>(SizeOf(dtype));
  const int64_t most = kSlotBytes / element;
  for (int64_t done = 0; done < count; done += most) {
    RETURN_IF_ERROR(Piece(static_cast<const char*>(send) + done * element,
                          static_cast<char*>(receive) + done * element,
                          std::min(most, count - done), dtype, check));
  }
  return absl::OkStatus();
}

}  // namespace tprun
