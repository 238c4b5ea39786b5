// Sums of two or more processes over shared memory, from 8 KiB to 16 MiB, beside what it takes to
// copy as many bytes twice (in and out), which every copying sum has to do.
//
//   all_reduce_benchmark [RANKS]

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/shared_memory_sum.h"

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

bool RunRank(const SharedMemory& memory, int rank, int ranks) {
  SharedMemorySum sum(memory.data(), rank, ranks);
  bool right = true;
  if (rank == 0) std::printf("%10s %10s %10s %14s\n", "bytes", "p50 us", "p99 us", "two copies us");
  for (int64_t bytes = 8 << 10; bytes <= 16 << 20; bytes *= 2) {
    std::vector<float> x(bytes / 4, 0.0f), copy(bytes / 4), back(bytes / 4);
    const int rounds = static_cast<int>(std::clamp<int64_t>((256 << 20) / bytes, 50, 2000));
    const auto check = [] { return absl::OkStatus(); };
    const Percentiles sums = Time(
        rounds, [&] { right &= sum.Run(x.data(), x.data(), bytes / 4, DType::kF32, check).ok(); });
    const Percentiles copies = Time(rounds, [&] {
      std::memcpy(copy.data(), x.data(), bytes);
      std::memcpy(back.data(), copy.data(), bytes);
    });
    if (rank == 0) {
      std::printf("%10lld %10.2f %10.2f %14.2f\n", static_cast<long long>(bytes), sums.p50,
                  sums.p99, copies.p50);
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
                                     SharedMemorySum::Bytes(ranks));
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
