#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace tprun {
namespace {

// Longer than the usual gap between two ops of a layer; past it, a waiting thread gives its core
// back (a wake-up then costs 20-45 us). Where another thread of the pool wants that core it does so
// soon: four threads on two cores then reach 0.87 of what two do, else 0.68.
constexpr std::chrono::microseconds kSpin{50}, kShortSpin{5};

// A worker takes such a part of what is left of a range at a time: few pieces, and small ones last.
constexpr int64_t kShareOfRest = 4;

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
  bool stop = false;

  // What is left of a worker's range, in grains.
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
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
    for (int64_t w = 0, begin = 0; w < workers; ++w) {
      Range& range = ranges[w];
      range.next.store(begin, std::memory_order_relaxed);
      range.end = begin += grains / workers + (w < grains % workers ? 1 : 0);
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
    for (int i = 0; i < active; ++i) {
      Range& range = ranges[(worker + i) % active];
      for (int64_t begin = range.next.load(std::memory_order_relaxed); begin < range.end;) {
        const int64_t end = begin + (range.end - begin + kShareOfRest - 1) / kShareOfRest;
        if (!range.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
        (*body)(begin * grain, std::min(end * grain, count), worker);
        begin = range.next.load(std::memory_order_relaxed);
      }
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

  void Work(int worker) {
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
      Leave();
      if (stops) return;
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
