#pragma once

#include <cstddef>

namespace cuda_emulation {

// A stack of its own on which a function runs until it switches away; it goes on where it stopped
// when it is switched to again. Every switch is told to the sanitizers.
class Fiber {
 public:
  Fiber() = default;  // stands for the caller's own stack
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber calls `entry`, which never returns: it leaves by SwitchTo(..,
  // finished). What ran on the stack before is forgotten. The stack is kept from start to start.
  void Start(void (*entry)());

  // Leaves the running fiber `from` for `to`. With `finished`, `from` is never switched to again.
  static void SwitchTo(Fiber& from, Fiber& to, bool finished = false);

 private:
  static void Arrived();  // first thing on the other side of a switch
  static void Entry();
  void AllocateStack();

  void* stack_pointer_ = nullptr;
  char* stack_ = nullptr;  // lowest address; below it lies a page that may not be touched
  void (*entry_)() = nullptr;
  bool left_cleanly_ = true;  // by a last switch: its frames have ended
  // For the sanitizers: where the stack is, and their own records.
  const void* bottom_ = nullptr;
  size_t size_ = 0;
  void* fake_stack_ = nullptr;
  void* thread_record_ = nullptr;
};

}  // namespace cuda_emulation
