#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace tprun {

// The worker threads of one rank. The calling thread is worker 0, so a pool of one starts no
// thread. One caller at a time.
//
//   ThreadPool pool(2);
//   pool.ParallelFor(rows, 16, [&](int64_t begin, int64_t end, int worker) { ... });
class ThreadPool {
 public:
  // cores: what the threads have for themselves; 0: all that the caller may use.
  explicit ThreadPool(int num_threads, int cores = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body for pieces of [0, count), each of whole grains but the last, until all are done.
  // Each worker has a contiguous range, which it goes through upwards, and then takes pieces of
  // the others' that they have not come to. Small counts run on fewer workers.
  void ParallelFor(int64_t count, int64_t grain,
                   const std::function<void(int64_t begin, int64_t end, int worker)>& body);
  // The first grain of a worker's range.
  static int64_t FirstGrain(int64_t worker, int64_t grains, int64_t workers);

  // What each worker but the caller may bring into its cache while it waits for a job, from its own
  // address on (nullptr: nothing), from the next job on.
  void FetchAhead(const std::vector<const char*>& from);

 private:
  struct State;
  int num_threads_;
  std::unique_ptr<State> state_;
};

}  // namespace tprun
