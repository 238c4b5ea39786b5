#include "launcher/chat_input.h"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

namespace tprun {
namespace {

volatile sig_atomic_t interrupts = 0;
volatile sig_atomic_t last_second = 0;

void OnInterrupt(int signal) {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto second = static_cast<sig_atomic_t>(now.tv_sec);
  if (interrupts > 0 && second - last_second < 2) {
    // Not heard in the meantime: the usual end.
    struct sigaction action = {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
    raise(signal);
  }
  last_second = second;
  interrupts = interrupts + 1;
}

struct sigaction before;

}  // namespace

ChatInput::ChatInput(bool relayed) : relayed_(relayed) {
  interrupts = 0;
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;  // without SA_RESTART: poll returns
  sigaction(SIGINT, &action, &before);
}

ChatInput::~ChatInput() { sigaction(SIGINT, &before, nullptr); }

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
  const size_t typed = relayed_ ? pending_.rfind(kInterruptByte) : std::string::npos;
  if (typed != std::string::npos) pending_.erase(typed, 1);
  const bool signalled = interrupts > 0;
  interrupts = 0;
  return signalled || typed != std::string::npos;
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
