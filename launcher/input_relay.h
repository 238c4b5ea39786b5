#pragma once

#include <atomic>
#include <thread>

namespace tprun {

// Passes this process's standard input on to a job, whose process group the terminal does not let
// read. Ctrl-C becomes a byte in it (kInterruptByte), and so does the end of the input (kEndByte);
// twice within two seconds it is a signal again.
class InputRelay {
 public:
  // Owns `pipe`, the end to write to. Without `reads` only Ctrl-C is passed on.
  InputRelay(int pipe, bool reads);
  ~InputRelay();
  InputRelay(const InputRelay&) = delete;
  InputRelay& operator=(const InputRelay&) = delete;

  // Called by a handler of SIGINT; false: it is not for the job's input.
  bool TakeInterrupt();

 private:
  void Pass();
  void Close();

  std::atomic<int> pipe_;
  std::atomic<bool> ending_{false};
  std::atomic<int64_t> last_second_{-10};
  std::thread thread_;
};

}  // namespace tprun
