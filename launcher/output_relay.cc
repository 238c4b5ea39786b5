#include "launcher/output_relay.h"

#include <poll.h>
#include <unistd.h>

#include "launcher/terminal.h"

namespace tprun {

OutputRelay::~OutputRelay() { Close(); }

bool OutputRelay::Pass(int timeout_ms) {
  pollfd ready = {pipe_, POLLIN, 0};  // poll skips a negative descriptor
  if (poll(&ready, 1, timeout_ms) <= 0) return false;
  char bytes[1 << 14];
  const ssize_t count = read(pipe_, bytes, sizeof(bytes));
  if (count == 0) Close();
  if (count <= 0) return false;
  reader_.Read(
      {bytes, static_cast<size_t>(count)}, [this](absl::string_view text) { WriteText(text); },
      WriteLogText);
  return true;
}

void OutputRelay::WriteText(absl::string_view text) {
  if (stopped_ || WriteStdout(text)) return;
  failure_ = StdoutFailure();
  stopped_ = true;
}

void OutputRelay::Close() {
  if (open()) close(pipe_);
  pipe_ = -1;
}

}  // namespace tprun
