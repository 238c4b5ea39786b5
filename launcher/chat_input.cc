#include "launcher/chat_input.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tprun {
void ChatInput::Read(int timeout_ms) {
  if (ended_ && !relayed_) return;
  pollfd ready = {STDIN_FILENO, POLLIN, 0};
  if (poll(&ready, 1, timeout_ms) <= 0) return;
  char bytes[1 << 14];
  const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
  if (count > 0) pending_.append(bytes, count);
  const size_t end = relayed_ ? pending_.find(kEndByte) : std::string::npos;
  if (end != std::string::npos) {
    ended_ = true;
    // An interruption may come after it.
    pending_.erase(end, 1);
  }
  if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) ended_ = true;
}

bool ChatInput::TakeInterrupt() {
  const size_t before = pending_.size();
  if (relayed_) {
    pending_.erase(std::remove(pending_.begin(), pending_.end(), kInterruptByte), pending_.end());
  }
  return interrupts_.Taken() || pending_.size() != before;
}

bool ChatInput::Interrupted() {
  Read(0);
  return TakeInterrupt();
}

ChatInput::Event ChatInput::Next(int timeout_ms, std::string* line) {
  if (pending_.find('\n') == std::string::npos) Read(timeout_ms);
  if (TakeInterrupt()) return Event::kInterrupt;
  size_t end = pending_.find('\n');
  if (end == std::string::npos && ended_ && !pending_.empty()) end = pending_.size();
  if (end == std::string::npos) return ended_ ? Event::kEnd : Event::kNothing;
  *line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  if (!line->empty() && line->back() == '\r') line->pop_back();
  return Event::kLine;
}

}  // namespace tprun
