#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace tprun {

// A bar on standard error, redrawn at most ten times a second; silent when
// standard error is no terminal. Thread-safe as long as calls do not overlap.
class ProgressBar {
 public:
  explicit ProgressBar(std::string what);
  void Update(int64_t done, int64_t total);  // bytes, with their rate
  // Of anything else; `note` is what is told beside the bar.
  void UpdateWith(int64_t done, int64_t total, const std::string& note);
  void Finish();  // clears the line

 private:
  std::string what_;
  bool enabled_;
  bool drawn_ = false;
  absl::Time start_;
  absl::Time last_;
};

}  // namespace tprun
