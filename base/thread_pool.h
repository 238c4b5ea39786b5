#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace tprun {

// The worker threads of one rank. The calling thread is worker 0, so a pool of one starts no
// thread. One caller at a time.
//
//   ThreadPool pool(2);
//   pool.ParallelFor(rows, 16, [&](int64_t begin, int64_t end, int worker) { ... });
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Cuts [0, count) into one contiguous range per worker, each a multiple of `grain` but the last,
  // and returns when all are done. Small counts run on fewer workers.
  void ParallelFor(int64_t count, int64_t grain,
                   const std::function<void(int64_t begin, int64_t end, int worker)>& body);

 private:
  struct State;
  int num_threads_;
  std::unique_ptr<State> state_;
};

}  // namespace tprun
