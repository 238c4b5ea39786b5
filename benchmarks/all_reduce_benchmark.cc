// Sums of two or more processes over shared memory, from 8 KiB to 16 MiB, in microseconds:
//   in place   from when a rank has written its part, as a product does, to when it has the sum
//   copied     of private memory, by way of slots that are shared
//   copies     the limit: each rank copies as many bytes into shared memory and those of another
//              out, which is what cores have to hand each other
//   + norm     either way, and the sum added to the residual and its norm taken (rows of 2,048):
//              all that a step has between two products
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
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/thread_pool.h"
#include "comm/shared_memory.h"
#include "comm/shared_memory_sum.h"
#include "comm/shared_parts.h"
#include "comm/spin_pause.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/layers.h"

namespace tprun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLeastBytes = 8 << 10;
constexpr int64_t kMostBytes = 16 << 20;
constexpr int64_t kDim = 2048;

double Microseconds(Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

struct Percentiles {
  double p50;
  double p99;
};

// Of `body`, each after `before`, which is not timed.
template <class Before, class Body>
Percentiles Time(int rounds, const Before& before, const Body& body) {
  std::vector<double> times;
  for (int i = -(rounds / 10 + 1); i < rounds; ++i) {
    before();
    const auto start = Clock::now();
    body();
    if (i >= 0) times.push_back(Microseconds(Clock::now() - start));
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 99 / 100]};
}

// As an engine's are: vectors that lie across lines of the cache cost more.
using AlignedFloats = std::unique_ptr<float, decltype(&std::free)>;
AlignedFloats MakeAligned(int64_t count) {
  constexpr int64_t kLine = 64;
  const int64_t bytes = (count * static_cast<int64_t>(sizeof(float)) + kLine - 1) / kLine * kLine;
  auto* const floats = static_cast<float*>(std::aligned_alloc(kLine, bytes));
  std::fill_n(floats, count, 1.0f);
  return {floats, &std::free};
}

// Ranks that meet and only spin.
class SpinMeeting {
 public:
  static constexpr int64_t kPage = 4096;
  SpinMeeting(char* memory, int rank, int ranks) : memory_(memory), rank_(rank), ranks_(ranks) {}

  void Meet() {
    ++meetings_;
    came(rank_).store(meetings_, std::memory_order_release);
    for (int r = 0; r < ranks_; ++r) {
      while (came(r).load(std::memory_order_acquire) < meetings_) SpinPause();
    }
  }

 private:
  std::atomic<int64_t>& came(int rank) {
    return *reinterpret_cast<std::atomic<int64_t>*>(memory_ + rank * kPage);
  }

  char* const memory_;
  const int rank_, ranks_;
  int64_t meetings_ = 0;
};

// Copies between ranks, in pieces that stay in L2 and slots that are filled in turn, as the copied
// sum has them.
class Copies {
 public:
  static int64_t Bytes(int ranks) { return ranks * (SpinMeeting::kPage + 2 * kPiece); }

  Copies(char* memory, int rank, int ranks)
      : meeting_(memory, rank, ranks),
        slots_(memory + ranks * SpinMeeting::kPage),
        rank_(rank),
        ranks_(ranks) {}

  void Run(const char* in, char* out, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += kPiece) {
      const int64_t count = std::min(kPiece, bytes - at);
      ++pieces_;
      std::memcpy(slot(rank_), in + at, count);
      meeting_.Meet();
      std::memcpy(out + at, slot((rank_ + 1) % ranks_), count);
    }
  }
  void Meet() { meeting_.Meet(); }

 private:
  static constexpr int64_t kPiece = 256 << 10;
  char* slot(int rank) { return slots_ + (2 * rank + pieces_ % 2) * kPiece; }

  SpinMeeting meeting_;
  char* const slots_;
  const int rank_, ranks_;
  int64_t pieces_ = 0;
};

class Rank {
 public:
  static int64_t Bytes(int ranks) {
    return SharedMemorySum::Bytes(ranks) + Copies::Bytes(ranks) +
           SharedParts::Bytes(ranks, kMostBytes / 4);
  }

  Rank(char* memory, int rank, int ranks)
      : rank_(rank),
        sum_(memory, rank, ranks),
        copies_(memory + SharedMemorySum::Bytes(ranks), rank, ranks),
        parts_(std::shared_ptr<void>(
                   memory + SharedMemorySum::Bytes(ranks) + Copies::Bytes(ranks), [](void*) {}),
               rank, ranks, kMostBytes / 4, absl::InfiniteDuration(),
               [](const Deadline&) { return absl::OkStatus(); }),
        kernels_(MakeCpuKernels(&pool_)) {}

  bool Run() {
    if (rank_ == 0) {
      std::printf("%10s | %9s %9s %7s | %9s %9s %7s | %9s | %9s %9s\n", "bytes", "in place", "p99",
                  "/copies", "copied", "p99", "/copies", "copies", "in + norm", "cp + norm");
    }
    for (int64_t bytes = kLeastBytes; bytes <= kMostBytes; bytes *= 2) Measure(bytes);
    return right_;
  }

 private:
  void Measure(int64_t bytes) {
    const int64_t count = bytes / 4, tokens = count / kDim;
    const AlignedFloats memory = MakeAligned(3 * count + kDim);
    float *const x = memory.get(), *const residual = x + count, *const normed = residual + count;
    float* const weight = normed + count;
    const int rounds = static_cast<int>(std::clamp<int64_t>((256 << 20) / bytes, 50, 2000));
    char* const data = reinterpret_cast<char*>(x);
    const auto nothing = [] {};
    const auto write = [&] {
      Check(parts_.AwaitReaders());
      std::memcpy(parts_.own(), data, bytes);
      copies_.Meet();  // else the wait for another's untimed part counts
    };
    const NormSpec norm = {.eps = 1e-5f};
    const Workspace work = {
        .residual = residual, .normed = normed, .block_output = parts_.own()};
    const InputNorm next = {weight, norm};
    StepContext step = {*kernels_, nullptr, work, kDim, &next};
    step.parts = &parts_;
    step.in_parts = true;
    const Percentiles in_place =
        Time(rounds, write, [&] { Check(SumOfParts(tokens, x, step)); });
    const Percentiles in_place_norm =
        Time(rounds, write, [&] { Check(AddToResidual(tokens, nullptr, nullptr, {}, step)); });
    const auto sum = [&] {
      Check(sum_.Run(x, x, count, DType::kF32, [] { return absl::OkStatus(); }));
    };
    const Percentiles copied = Time(rounds, nothing, sum);
    const Percentiles copied_norm = Time(rounds, nothing, [&] {
      sum();
      Check(kernels_->AddRmsNorm(residual, x, weight, tokens, kDim, norm,
                                 normed));
    });
    const Percentiles copies = Time(rounds, nothing, [&] { copies_.Run(data, data, bytes); });
    if (rank_ != 0) return;
    std::printf("%10lld | %9.2f %9.2f %7.2f | %9.2f %9.2f %7.2f | %9.2f | %9.2f %9.2f\n",
                static_cast<long long>(bytes), in_place.p50, in_place.p99,
                in_place.p50 / copies.p50, copied.p50, copied.p99, copied.p50 / copies.p50,
                copies.p50, in_place_norm.p50, copied_norm.p50);
  }

  void Check(const absl::Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    right_ = false;
  }

  const int rank_;
  bool right_ = true;
  SharedMemorySum sum_;
  Copies copies_;
  SharedParts parts_;
  ThreadPool pool_{1};
  std::unique_ptr<Kernels> kernels_;
};

int Main(int argc, char** argv) {
  const int ranks = argc > 1 ? std::atoi(argv[1]) : 2;
  if (ranks < 2 || ranks > 64) {
    std::fprintf(stderr, "wanted 2 to 64 ranks, found %s\n", argv[1]);
    return 2;
  }
  auto memory =
      SharedMemory::Create(absl::StrCat("/tprun-benchmark-", getpid()), Rank::Bytes(ranks));
  if (!memory.ok()) {
    std::fprintf(stderr, "%s\n", memory.status().ToString().c_str());
    return 1;
  }
  memory->RemoveName();
  char* const data = static_cast<char*>(memory->data());
  for (int rank = 1; rank < ranks; ++rank) {
    if (fork() == 0) _exit(Rank(data, rank, ranks).Run() ? 0 : 1);
  }
  bool right = Rank(data, 0, ranks).Run();
  for (int status; wait(&status) > 0;) right &= status == 0;
  return right ? 0 : 1;
}

}  // namespace
}  // namespace tprun

int main(int argc, char** argv) { return tprun::Main(argc, argv); }
