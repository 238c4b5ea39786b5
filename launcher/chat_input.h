#pragma once

#include <string>

namespace tprun {

// Ctrl-C and the end of the input as they reach a rank whose standard input is an InputRelay's: the
// process that started the ranks has the terminal.
inline constexpr char kInterruptByte = '\x03';
inline constexpr char kEndByte = '\x04';

// What a person types, line by line, on standard input. While it lives Ctrl-C is an event here and
// ends the program only when it comes twice within two seconds.
class ChatInput {
 public:
  enum class Event { kNothing, kLine, kInterrupt, kEnd };

  // `relayed`: through an InputRelay.
  explicit ChatInput(bool relayed);
  ~ChatInput();
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

  bool relayed_;
  std::string pending_;
  bool ended_ = false;
};

}  // namespace tprun
