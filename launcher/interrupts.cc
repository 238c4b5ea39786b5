#include "launcher/interrupts.h"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "absl/strings/string_view.h"
#include "launcher/job_stream.h"
#include "launcher/terminal.h"

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

Interrupts::Interrupts() {
  interrupts = 0;
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = SA_RESTART;  // poll returns all the same; a write that waits has not failed
  sigaction(SIGINT, &action, &before);
  TellTakesInterrupts(true);
}

Interrupts::~Interrupts() {
  TellTakesInterrupts(false);
  sigaction(SIGINT, &before, nullptr);
}

bool Interrupts::Taken() {
  const bool taken = interrupts > 0;
  interrupts = 0;
  return taken;
}

bool CommandInterrupts::Came() {
  came_ = came_ || interrupts_.Taken();
  if (!WritesJobStream()) return came_;
  pollfd ready = {STDIN_FILENO, POLLIN, 0};
  char bytes[64];
  while (!came_ && poll(&ready, 1, 0) > 0) {
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (count <= 0) break;
    came_ = absl::string_view(bytes, count).find(kInterruptByte) != absl::string_view::npos;
  }
  return came_;
}

}  // namespace tprun
