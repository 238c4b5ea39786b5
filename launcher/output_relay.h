#pragma once

#include "absl/status/status.h"
#include "launcher/job_stream.h"

namespace tprun {

// Passes on what a job writes to its pipe, a stream as JobStreamReader reads it. mpirun would tell
// at length that its own standard output was closed; behind a relay it does not learn of it.
class OutputRelay {
 public:
  // Owns `pipe`, the end to read from.
  explicit OutputRelay(int pipe) : pipe_(pipe) {}
  ~OutputRelay();
  OutputRelay(const OutputRelay&) = delete;
  OutputRelay& operator=(const OutputRelay&) = delete;

  // Waits up to `timeout_ms` for output and passes it on; false when there was none.
  bool Pass(int timeout_ms);
  // The job has not closed its end yet.
  bool open() const { return pipe_ >= 0; }
  // The first rank takes Ctrl-C as an event on its input.
  bool takes_interrupts() const { return reader_.takes_interrupts(); }
  // Our standard output takes no more; what comes is dropped.
  bool stopped() const { return stopped_; }
  // Why it takes no more; OK when the reader has left.
  const absl::Status& failure() const { return failure_; }

 private:
  void Close();
  void WriteText(absl::string_view text);

  int pipe_;
  JobStreamReader reader_;
  bool stopped_ = false;
  absl::Status failure_;
};

}  // namespace tprun
