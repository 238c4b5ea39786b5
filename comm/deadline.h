#pragma once

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace tprun {

// The end of one wait, on the steady clock. An infinite timeout never passes.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Deadline(absl::Duration timeout)
      : start_(Clock::now()),
        timeout_(std::max(std::chrono::nanoseconds(0), absl::ToChronoNanoseconds(timeout))) {}

  std::chrono::nanoseconds Elapsed() const { return Clock::now() - start_; }
  bool Passed() const { return Elapsed() >= timeout_; }

  // When to look again: the deadline, or an hour from now (so that the sum cannot overflow).
  Clock::time_point NextLook() const {
    return Clock::now() +
           std::min<std::chrono::nanoseconds>(timeout_ - Elapsed(), std::chrono::hours(1));
  }

 private:
  Clock::time_point start_;
  std::chrono::nanoseconds timeout_;
};

}  // namespace tprun
