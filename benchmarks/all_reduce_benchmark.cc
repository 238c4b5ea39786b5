// Sums of two or more processes over shared memory, from 8 KiB to 16 MiB, beside two limits: what it
// takes each rank to copy as many bytes into shared memory and those of another out, which is what
// cores have to hand each other; and two copies within a core's own memory.
//
//   all_reduce_benchmark [RANKS]

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/shared_memory_sum.h"
#include "comm/spin_pause.h"

namespace tprun {
namespace {

using Clock = std::chrono::steady_clock;

double Microseconds(Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

struct Percentiles {
  double p50;
  double p99;
};

template <class Body>
Percentiles Time(int rounds, const Body& body) {
  for (int i = 0; i < rounds / 10 + 1; ++i) body();
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) {
    const auto start = Clock::now();
    body();
    times.push_back(Microseconds(Clock::now() - start));
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 99 / 100]};
}

// Copies between ranks, in pieces that stay in L2 and slots that are filled in turn, as the sum has
// them; it only spins.
class Copies {
 public:
  static int64_t Bytes(int ranks) { return ranks * (kPage + 2 * kPiece); }

  Copies(void* memory, int rank, int ranks)
      : memory_(static_cast<char*>(memory)), rank_(rank), ranks_(ranks) {}

  void Run(const char* in, char* out, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += kPiece) {
      const int64_t count = std::min(kPiece, bytes - at);
      ++pieces_;
      std::memcpy(slot(rank_), in + at, count);
      came(rank_).store(pieces_, std::memory_order_release);
      for (int r = 0; r < ranks_; ++r) {
        while (came(r).load(std::memory_order_acquire) < pieces_) SpinPause();
      }
      std::memcpy(out + at, slot((rank_ + 1) % ranks_), count);
    }
  }

 private:
  static constexpr int64_t kPage = 4096;
  static constexpr int64_t kPiece = 256 << 10;

  std::atomic<int64_t>& came(int rank) {
    return *reinterpret_cast<std::atomic<int64_t>*>(memory_ + rank * kPage);
  }
  char* slot(int rank) { return memory_ + ranks_ * kPage + (2 * rank + pieces_ % 2) * kPiece; }

  char* const memory_;
  const int rank_, ranks_;
  int64_t pieces_ = 0;
};

bool RunRank(const SharedMemory& memory, int rank, int ranks) {
  SharedMemorySum sum(memory.data(), rank, ranks);
  Copies copies(static_cast<char*>(memory.data()) + SharedMemorySum::Bytes(ranks), rank, ranks);
  bool right = true;
  if (rank == 0) {
    std::printf("%10s %10s %10s %14s %8s %14s\n", "bytes", "p50 us", "p99 us", "copies us", "ratio",
                "own copies us");
  }
  for (int64_t bytes = 8 << 10; bytes <= 16 << 20; bytes *= 2) {
    std::vector<float> x(bytes / 4, 0.0f), y(bytes / 4), z(bytes / 4);
    const int rounds = static_cast<int>(std::clamp<int64_t>((256 << 20) / bytes, 50, 2000));
    const auto check = [] { return absl::OkStatus(); };
    const Percentiles sums = Time(
        rounds, [&] { right &= sum.Run(x.data(), x.data(), bytes / 4, DType::kF32, check).ok(); });
    const Percentiles exchange = Time(rounds, [&] {
      copies.Run(reinterpret_cast<char*>(x.data()), reinterpret_cast<char*>(x.data()), bytes);
    });
    const Percentiles own = Time(rounds, [&] {
      std::memcpy(y.data(), x.data(), bytes);
      std::memcpy(z.data(), y.data(), bytes);
    });
    if (rank == 0) {
      std::printf("%10lld %10.2f %10.2f %14.2f %8.2f %14.2f\n", static_cast<long long>(bytes),
                  sums.p50, sums.p99, exchange.p50, sums.p50 / exchange.p50, own.p50);
    }
  }
  return right;
}

int Main(int argc, char** argv) {
  const int ranks = argc > 1 ? std::atoi(argv[1]) : 2;
  if (ranks < 2 || ranks > 64) {
    std::fprintf(stderr, "wanted 2 to 64 ranks, found %s\n", argv[1]);
    return 2;
  }
  auto memory = SharedMemory::Create(absl::StrCat("/tprun-benchmark-", getpid()),
                                     SharedMemorySum::Bytes(ranks) + Copies::Bytes(ranks));
  if (!memory.ok()) {
    std::fprintf(stderr, "%s\n", memory.status().ToString().c_str());
    return 1;
  }
  memory->RemoveName();
  for (int rank = 1; rank < ranks; ++rank) {
    if (fork() == 0) _exit(RunRank(*memory, rank, ranks) ? 0 : 1);
  }
  bool right = RunRank(*memory, 0, ranks);
  for (int status; wait(&status) > 0;) right &= status == 0;
  return right ? 0 : 1;
}

}  // namespace
}  // namespace tprun

int main(int argc, char** argv) { return tprun::Main(argc, argv); }
