#pragma once

#include <string>

namespace tprun {

// Ctrl-C as it reaches a rank through its standard input: the process that started the ranks has
// the terminal (see SpawnRanks).
inline constexpr char kInterruptByte = '\x03';

// What a person types, line by line, on standard input. While it lives Ctrl-C is an event here and
// ends the program only when it comes twice within two seconds.
class ChatInput {
 public:
  enum class Event { kNothing, kLine, kInterrupt, kEnd };

  ChatInput();
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

  std::string pending_;
  bool ended_ = false;
};

}  // namespace tprun
