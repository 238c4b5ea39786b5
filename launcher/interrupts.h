#pragma once

namespace tprun {

// Ctrl-C and the end of the input as they reach a rank whose standard input is an InputRelay's: the
// process that started the ranks has the terminal.
inline constexpr char kInterruptByte = '\x03';
inline constexpr char kEndByte = '\x04';

// While one lives (at most one at a time), Ctrl-C is an event and ends the program only when it
// comes twice within two seconds.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Whether Ctrl-C came since the last call.
  bool Taken();
};

// The same for a command that reads nothing on standard input, which is an InputRelay's where this
// program started the ranks.
class CommandInterrupts {
 public:
  // Whether Ctrl-C has ever come.
  bool Came();

 private:
  Interrupts interrupts_;
  bool came_ = false;
};

}  // namespace tprun
