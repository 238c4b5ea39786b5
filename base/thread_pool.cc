#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace tprun {
namespace {

// Longer than the usual gap between two ops of a layer; past it, a waiting thread gives its core
// back (a wake-up then costs 20-45 us). Where another thread of the pool wants that core it does so
// soon: four threads on two cores decode q4_0 at 97 tokens/s, else at 84.
constexpr std::chrono::microseconds kSpin{50}, kShortSpin{5};

// A worker takes half of what is left of a range at a time, and all if that is no more than such a
// part of it; from another's range nothing then. (Many small pieces cost each op 3 % of its time.)
constexpr int64_t kLastPart = 8;

// What a worker fetches ahead of a job at most, a part of a core's L2, and between two looks at
// whether the job has come.
constexpr int kAheadBytes = 192 << 10, kAheadStep = 2048;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A condition that is spun on first and slept on after: Wait() by the one side, Wake() by the
// other.
class Gate {
 public:
  explicit Gate(std::chrono::microseconds spin) : spin_(spin) {}

  template <class Done>
  void Wait(Done done) {
    if (SpinUntil(done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleepers_;
    condition_.wait(lock, done);
    --sleepers_;
  }

  // To be called after the change that makes done() true. Both that change and sleepers_ are
  // sequentially consistent, so either the sleeper sees the change or we see the sleeper.
  void Wake() {
    if (sleepers_.load() == 0) return;
    std::lock_guard<std::mutex> lock(mutex_);
    condition_.notify_all();
  }

 private:
  template <class Done>
  bool SpinUntil(Done done) const {
    const auto deadline = std::chrono::steady_clock::now() + spin_;
    do {
      for (int i = 0; i < 32; ++i) {
        if (done()) return true;
        Pause();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    return done();
  }

  const std::chrono::microseconds spin_;
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable condition_;
};

}  // namespace

struct ThreadPool::State {
  State(int workers, std::chrono::microseconds spin) : ranges(workers), start(spin), finish(spin) {}

  // The job, which changes only while the door is closed and nobody is inside.
  const std::function<void(int64_t, int64_t, int)>* body = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
  int active = 0;
  std::vector<const char*> ahead;  // see FetchAhead
  bool stop = false;

  // What is left of a worker's range, in grains.
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    int64_t size = 0;
  };
  std::vector<Range> ranges;

  // The workers inside the job, below a number that moves when the door opens (it is odd then) and
  // when it closes. A worker that comes late finds it closed, and nobody waits for it.
  static constexpr uint64_t kTurn = uint64_t{1} << 32;
  alignas(64) std::atomic<uint64_t> door{0};
  static uint64_t TurnOf(uint64_t state) { return state / kTurn; }
  static bool IsOpen(uint64_t state) { return TurnOf(state) % 2 == 1; }
  static bool IsEmpty(uint64_t state) { return state % kTurn == 0; }

  Gate start;
  Gate finish;
  std::vector<std::thread> threads;

  void Open(const std::function<void(int64_t, int64_t, int)>& job, int64_t elements,
            int64_t elements_of_grain, int64_t grains, int workers) {
    body = &job;
    count = elements;
    grain = elements_of_grain;
    active = workers;
    for (int w = 0; w < workers; ++w) {
      const int64_t first = FirstGrain(w, grains, workers);
      ranges[w].next.store(first, std::memory_order_relaxed);
      ranges[w].end = FirstGrain(w + 1, grains, workers);
      ranges[w].size = ranges[w].end - first;
    }
    door.fetch_add(kTurn);
    start.Wake();
  }

  void CloseAndWait() {
    door.fetch_add(kTurn);
    finish.Wait([&] { return IsEmpty(door.load()); });
  }

  // Takes pieces until none is left: of the worker's own range, then of those after it, so that
  // nobody waits for the whole share of a thread that is slower, or has no core.
  void Run(int worker) {
    TakeFrom(ranges[worker], worker, 1);
    for (int i = 1; i < active; ++i) {
      Range& range = ranges[(worker + i) % active];
      TakeFrom(range, worker, std::max<int64_t>(range.size / kLastPart, 1));
    }
  }

  // While at least so many grains are left.
  void TakeFrom(Range& range, int worker, int64_t least) {
    for (int64_t begin = range.next.load(std::memory_order_relaxed); range.end - begin >= least;) {
      const int64_t left = range.end - begin;
      const int64_t end = left <= range.size / kLastPart ? range.end : begin + (left + 1) / 2;
      if (!range.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
      (*body)(begin * grain, std::min(end * grain, count), worker);
      begin = range.next.load(std::memory_order_relaxed);
    }
  }

  bool Enter(uint64_t turn) {
    for (uint64_t at = door.load(); TurnOf(at) == turn;) {
      if (door.compare_exchange_weak(at, at + 1)) return true;
    }
    return false;
  }

  void Leave() {
    const uint64_t now = door.fetch_sub(1) - 1;
    if (IsEmpty(now) && !IsOpen(now)) finish.Wake();
  }

  // Until a job comes after turn `seen`.
  void Fetch(const char* from, int& fetched, uint64_t seen) const {
    for (; fetched < kAheadBytes; fetched += kAheadStep) {
      const uint64_t at = door.load(std::memory_order_relaxed);
      if (IsOpen(at) && TurnOf(at) != seen) return;
      for (int line = 0; line < kAheadStep; line += 64) {
        __builtin_prefetch(from + fetched + line, 0, 2);
      }
    }
  }

  void Work(int worker) {
    const char* from = nullptr;  // fetched ahead
    int fetched = 0;
    for (uint64_t seen = 0;;) {
      uint64_t at;
      start.Wait([&] {
        at = door.load();
        return IsOpen(at) && TurnOf(at) != seen;
      });
      seen = TurnOf(at);
      if (!Enter(seen)) continue;
      const bool stops = stop;
      if (!stops && worker < active) Run(worker);
      const char* const own = static_cast<size_t>(worker) < ahead.size() ? ahead[worker] : nullptr;
      Leave();
      if (stops) return;
      if (own != std::exchange(from, own)) fetched = 0;
      if (own != nullptr) Fetch(own, fetched, seen);
    }
  }
};

ThreadPool::ThreadPool(int num_threads, int cores) : num_threads_(std::max(num_threads, 1)) {
  if (cores <= 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  const bool crowded = cores > 0 && num_threads_ > cores;
  state_ = std::make_unique<State>(num_threads_, crowded ? kShortSpin : kSpin);
  for (int worker = 1; worker < num_threads_; ++worker) {
    try {
      state_->threads.emplace_back([state = state_.get(), worker] { state->Work(worker); });
    } catch (const std::system_error&) {  // no more threads to be had: go on with those there are
      num_threads_ = worker;
    }
  }
}

ThreadPool::~ThreadPool() {
  state_->stop = true;
  state_->door.fetch_add(State::kTurn);
  state_->start.Wake();
  for (std::thread& thread : state_->threads) thread.join();
}

int64_t ThreadPool::FirstGrain(int64_t worker, int64_t grains, int64_t workers) {
  return worker * (grains / workers) + std::min(worker, grains % workers);
}

void ThreadPool::FetchAhead(const std::vector<const char*>& from) { state_->ahead = from; }

void ThreadPool::ParallelFor(
    int64_t count, int64_t grain,
    const std::function<void(int64_t begin, int64_t end, int worker)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t grains = (count - 1) / grain + 1;
  const int active = static_cast<int>(std::min<int64_t>(num_threads_, grains));
  if (active == 1) {
    body(0, count, 0);
    return;
  }
  State& state = *state_;
  state.Open(body, count, grain, grains, active);
  state.Run(0);
  state.CloseAndWait();
}

}  // namespace tprun
