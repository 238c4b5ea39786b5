#pragma once

#include <string>

#include "launcher/interrupts.h"

namespace tprun {

// What a person types, line by line, on standard input. While it lives Ctrl-C is an event here (see
// Interrupts).
class ChatInput {
 public:
  enum class Event { kNothing, kLine, kInterrupt, kEnd };

  // `relayed`: through an InputRelay.
  explicit ChatInput(bool relayed) : relayed_(relayed) {}
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;

  // Waits up to `timeout_ms` for an event; of kLine, `line` is the text without its end.
  Event Next(int timeout_ms, std::string* line);

  // Whether Ctrl-C came since the last call of either.
  bool Interrupted();

 private:
  // Reads what is there within the time.
  void Read(int timeout_ms);
  bool TakeInterrupt();

  Interrupts interrupts_;
  bool relayed_;
  std::string pending_;
  bool ended_ = false;
};

}  // namespace tprun
