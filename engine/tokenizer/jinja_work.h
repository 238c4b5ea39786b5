#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace tprun {

// Far more than conversations need; with them a template ends within seconds and within some
// hundred MB, as what takes time or memory by the size of a value is spent before it is done.
inline constexpr int64_t kMostJinjaSteps = 5'000'000;
// More of them for each byte of text that it is given, which is walked many times over.
inline constexpr int64_t kJinjaStepsOfGivenByte = 2;

// Bytes of text that are walked or made in a step.
inline constexpr int64_t kJinjaTextOfStep = 16;

// A part of a text that becomes a value of its own takes more memory than other elements do.
inline constexpr int64_t kJinjaStepsOfPart = 4;

// Counts what this thread spends while it lives. Per thread, as comparing values spends too.
class JinjaWork {
 public:
  explicit JinjaWork(int64_t most) : outer_(current_), most_(most) { current_ = this; }
  ~JinjaWork() { current_ = outer_; }
  JinjaWork(const JinjaWork&) = delete;
  JinjaWork& operator=(const JinjaWork&) = delete;

  // InvalidArgument: more than `most` in all, from then on. Unbounded where none lives.
  static absl::Status Spend(int64_t steps);

 private:
  static thread_local JinjaWork* current_;
  JinjaWork* outer_;
  const int64_t most_;
  int64_t steps_ = 0;
};

}  // namespace tprun
