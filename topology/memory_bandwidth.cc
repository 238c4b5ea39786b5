#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "topology/topology.h"

namespace tprun {
namespace {

constexpr int64_t kPiece = 256;  // bytes per step of the loop
constexpr int64_t kHugePage = int64_t{2} << 20;

// Memory with huge pages where the kernel grants them: 4 KiB pages cost 10 % (measured 2026-11).
class Mapping {
 public:
  explicit Mapping(int64_t bytes) : bytes_(bytes) {
    void* memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    data_ = static_cast<char*>(memory);
    madvise(data_, bytes_, MADV_HUGEPAGE);
  }
  ~Mapping() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* data() const { return data_; }

 private:
  int64_t bytes_;
  char* data_ = nullptr;
};

// 16 bytes are in every x86-64 and ARMv8; memory, not the sum, is what limits.
using Vector = uint64_t __attribute__((vector_size(16)));

// Adds up [data, data + bytes) with eight independent sums, so that no addition waits for another.
uint64_t Sum(const char* data, int64_t bytes) {
  constexpr int kSums = 8;
  constexpr int kAhead = 4096;  // best of 2-8 KiB, into the second-level cache
  Vector sums[kSums] = {};
  for (int64_t i = 0; i + kPiece <= bytes; i += kPiece) {
    const Vector* piece = reinterpret_cast<const Vector*>(data + i);
    for (int line = 0; line < kPiece; line += 64) {
      __builtin_prefetch(data + i + kAhead + line, 0, 2);
    }
    for (int j = 0; j < static_cast<int>(kPiece / sizeof(Vector)); ++j) sums[j % kSums] += piece[j];
  }
  uint64_t total = 0;
  for (const Vector& sum : sums) total += sum[0] + sum[1];
  return total;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One pass per crossing of the barrier; its completion step sees when all threads are there.
struct Passes {
  static constexpr int kMin = 3;
  static constexpr int kMax = 64;
  static constexpr double kBudget = 0.8;  // seconds over all passes

  double started = 0;
  double previous = 0;
  double best = std::numeric_limits<double>::infinity();
  int count = -1;  // passes done; the first crossing only starts the clock
  bool done = false;

  void Cross() {
    const double now = Seconds();
    if (count < 0) {
      started = now;
    } else {
      best = std::min(best, now - previous);
    }
    ++count;
    previous = Seconds();
    done = count >= kMax || (count >= kMin && now - started > kBudget);
  }
};

}  // namespace

double MeasureMemoryBandwidth(int threads, int64_t bytes) {
  threads = std::clamp(threads, 1, 1024);
  // Half of what is free at most: a measurement must not push anything out.
  const int64_t free_bytes =
      static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  bytes = std::clamp(bytes, threads * kHugePage, std::max(free_bytes / 2, threads * kHugePage));
  const int64_t share = bytes / threads / kPiece * kPiece;
  const Mapping memory(share * threads);
  if (memory.data() == nullptr) return 0;

  Passes passes;
  std::atomic<uint64_t> sink{0};
  auto cross = [&passes]() noexcept { passes.Cross(); };
  std::barrier barrier(threads, cross);
  auto work = [&](int thread) {
    char* part = memory.data() + share * thread;
    // The thread that reads a page writes it first, so that it lies in its own NUMA node.
    std::memset(part, thread + 1, share);
    uint64_t sum = 0;
    barrier.arrive_and_wait();
    while (!passes.done) {
      sum += Sum(part, share);
      barrier.arrive_and_wait();
    }
    sink += sum;  // keeps the reads
  };
  std::vector<std::thread> workers;
  int missing = 0;
  for (int thread = 1; thread < threads; ++thread) {
    try {
      workers.emplace_back(work, thread);
    } catch (const std::system_error&) {
      ++missing;
      barrier.arrive_and_drop();
    }
  }
  work(0);
  for (std::thread& worker : workers) worker.join();
  return static_cast<double>(share) * (threads - missing) / passes.best;
}

}  // namespace tprun
