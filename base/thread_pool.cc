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
// back (a wake-up then costs 20-45 us).
constexpr std::chrono::microseconds kSpin{50};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Done>
bool SpinUntil(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

// A condition that is spun on first and slept on after. Set() by the one side, Wait() by the other.
class Gate {
 public:
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
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable condition_;
};

}  // namespace

struct ThreadPool::State {
  // The job, written before `epoch` moves and read after.
  const std::function<void(int64_t, int64_t, int)>* body = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
  int active = 0;
  bool stop = false;

  alignas(64) std::atomic<uint32_t> epoch{0};  // moves with every job
  alignas(64) std::atomic<int> pending{0};     // workers that have not finished it
  Gate start;
  Gate finish;
  std::vector<std::thread> threads;

  void RunShare(int worker) const {
    if (worker >= active) return;
    const int64_t grains = (count + grain - 1) / grain;
    const int64_t each = grains / active;
    const int64_t more = grains % active;  // the first `more` workers take one grain more
    const int64_t begin = (worker * each + std::min<int64_t>(worker, more)) * grain;
    const int64_t end = begin + (each + (worker < more ? 1 : 0)) * grain;
    (*body)(begin, std::min(end, count), worker);
  }

  void Work(int worker) {
    for (uint32_t seen = 0;;) {
      start.Wait([&] { return epoch.load() != seen; });
      seen = epoch.load();
      if (stop) return;
      RunShare(worker);
      if (pending.fetch_sub(1) == 1) finish.Wake();
    }
  }
};

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(std::max(num_threads, 1)), state_(std::make_unique<State>()) {
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
  state_->epoch.fetch_add(1);
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
  state.body = &body;
  state.count = count;
  state.grain = grain;
  state.active = active;
  state.pending.store(num_threads_ - 1);
  state.epoch.fetch_add(1);
  state.start.Wake();
  state.RunShare(0);
  state.finish.Wait([&] { return state.pending.load() == 0; });
}

}  // namespace tprun
