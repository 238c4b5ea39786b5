#pragma once

#include <atomic>
#include <chrono>

#include "comm/nccl_api.h"

namespace tprun {

// An NCCL for ranks that are threads, on streams of the fake CUDA runtime: sums of float alone. A
// test says how it behaves, and reads what was asked of it.
struct FakeNccl {
  // How it behaves.
  std::atomic<int> failing_rank{-1};         // cannot start
  std::atomic<bool> fails_later{false};      // that one, when it is asked
  std::atomic<int> rank_without_window{-1};  // that fails to register one
  std::atomic<bool> never_starts{false};
  std::atomic<bool> windows_are_null{false};
  std::atomic<bool> windows_hang{false};  // sums there, until they are aborted
  std::atomic<bool> windows_sum_wrong{false};
  std::atomic<int> window_delay_us{0}, plain_delay_us{2000};  // of a sum
  std::atomic<int> graphs{0};  // that hold its operations: an abort waits for their end

  // What was asked.
  std::atomic<int> begun{0}, aborted{0}, destroyed{0};  // communicators; aborted to its end
  std::atomic<int> windows_closed{0}, freed{0};
};

// The one that LoadNccl gives from now on; outlives all communicators and their aborts.
void UseNccl(FakeNccl* nccl);

}  // namespace tprun
