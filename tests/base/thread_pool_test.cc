#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tprun {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, CoversEveryIndexOnceInWholeGrains) {
  ThreadPool pool(GetParam());
  for (int64_t count : {0, 1, 2, 7, 16, 17, 1000}) {
    for (int64_t grain : {1, 4, 16, 5000}) {
      std::vector<std::atomic<int>> seen(count);
      pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int worker) {
        EXPECT_LT(begin, end);
        EXPECT_EQ(begin % grain, 0);
        EXPECT_TRUE(end == count || end % grain == 0);
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, pool.num_threads());
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
      for (int64_t i = 0; i < count; ++i) EXPECT_EQ(seen[i], 1) << count << " " << grain;
    }
  }
}

// Whoever has the first piece is held until all others are done.
TEST_P(ThreadPoolTest, NobodyWaitsForASlowThreadsShare) {
  ThreadPool pool(GetParam());
  if (pool.num_threads() == 1) GTEST_SKIP() << "needs another thread";
  const int64_t count = 64 * pool.num_threads();
  for (int i = 0; i < 3; ++i) {
    std::atomic<int64_t> others{0};
    std::vector<std::atomic<int>> seen(count);
    pool.ParallelFor(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) ++seen[j];
      if (begin > 0) {
        others += end - begin;
        return;
      }
      EXPECT_LT(end, count / pool.num_threads());
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (others < count - end && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
      }
      EXPECT_EQ(others, count - end);
    });
    for (const std::atomic<int>& times : seen) EXPECT_EQ(times, 1);
  }
}

// A later job must see what an earlier one wrote, and none may be lost or run twice.
TEST_P(ThreadPoolTest, ManyShortJobs) {
  ThreadPool pool(GetParam());
  std::vector<int> sums(64);
  for (int i = 0; i < 300; ++i) {
    pool.ParallelFor(64, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) ++sums[63 - j + (i % 2 == 0 ? 0 : 2 * j - 63)];
    });
  }
  for (int sum : sums) EXPECT_EQ(sum, 300);
}

// Whatever the addresses are, and also where jobs come before all is fetched.
TEST_P(ThreadPoolTest, JobsAreDoneAfterFetchingAhead) {
  ThreadPool pool(GetParam());
  const std::vector<char> memory(1000);
  std::atomic<int64_t> sum{0};
  for (int i = 0; i < 100; ++i) {
    std::vector<const char*> from(i % 5, memory.data() + 900);
    if (!from.empty()) from.back() = nullptr;
    pool.FetchAhead(from);
    pool.ParallelFor(64, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  EXPECT_EQ(sum, 6400);
}

// Long after the spin both sides sleep and must be woken.
TEST_P(ThreadPoolTest, WakesSleepers) {
  ThreadPool pool(GetParam());
  std::atomic<int> calls{0};
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.ParallelFor(pool.num_threads(), 1, [&](int64_t, int64_t, int worker) {
      if (worker > 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++calls;
    });
  }
  EXPECT_EQ(calls, 5 * pool.num_threads());
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 16));

TEST(ThreadPool, OfLessThanOneThreadHasTheCaller) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.num_threads(), 1);
  const std::thread::id caller = std::this_thread::get_id();
  pool.ParallelFor(10, 1, [&](int64_t, int64_t, int worker) {
    EXPECT_EQ(worker, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

}  // namespace
}  // namespace tprun
