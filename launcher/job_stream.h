#pragma once

#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace tprun {

// What the first rank of a job tells the process that started it, on one stream: mpirun keeps no
// order between standard output and standard error. Text goes as it is, but for the byte that
// begins a mark, which comes twice.
std::string StreamText(absl::string_view text);
// For standard error.
std::string StreamLog(absl::string_view text);
// Whether the rank takes Ctrl-C as an event on its input from now on (see InputRelay).
std::string StreamTakesInterrupts(bool takes);

// Whether this process is such a rank.
bool WritesJobStream();

// The other end.
class JobStreamReader {
 public:
  using Sink = std::function<void(absl::string_view part)>;

  // The next bytes of the stream, wherever they were cut.
  void Read(absl::string_view bytes, const Sink& text, const Sink& log);
  bool takes_interrupts() const { return takes_interrupts_; }

 private:
  bool in_mark_ = false;
  bool in_log_ = false;
  bool takes_interrupts_ = false;
};

}  // namespace tprun
