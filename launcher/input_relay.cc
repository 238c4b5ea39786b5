#include "launcher/input_relay.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "launcher/interrupts.h"

namespace tprun {

InputRelay::InputRelay(int pipe, bool reads) : pipe_(pipe) {
  if (reads) thread_ = std::thread([this] { Pass(); });
}

InputRelay::~InputRelay() {
  ending_ = true;
  if (thread_.joinable()) thread_.join();
  Close();
}

bool InputRelay::TakeInterrupt() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (now.tv_sec - last_second_ < 2) return false;
  last_second_ = now.tv_sec;
  // A full pipe, of a job that does not read, would hold up the handler: the signal is the job's.
  pollfd room = {pipe_, POLLOUT, 0};
  return room.fd >= 0 && poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0 &&
         write(room.fd, &kInterruptByte, 1) == 1;
}

void InputRelay::Pass() {
  char bytes[1 << 12];
  while (!ending_ && pipe_ >= 0) {
    pollfd ready = {STDIN_FILENO, POLLIN, 0};
    if (poll(&ready, 1, 100) <= 0) continue;
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      // The pipe stays open: Ctrl-C may follow.
      while (write(pipe_, &kEndByte, 1) < 0 && errno == EINTR) continue;
      return;
    }
    // These bytes mean something else here.
    std::replace_if(
        bytes, bytes + count, [](char c) { return c == kInterruptByte || c == kEndByte; }, ' ');
    for (ssize_t done = 0; done < count;) {
      const ssize_t written = write(pipe_, bytes + done, count - done);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Close();  // the job reads no more
      done += written;
    }
  }
}

void InputRelay::Close() {
  const int pipe = pipe_.exchange(-1);
  if (pipe >= 0) close(pipe);
}

}  // namespace tprun
