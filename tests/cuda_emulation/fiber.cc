#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace cuda_emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = 128 << 10;  // instrumented code needs more than a GPU thread

// Who runs, and who was left last: how a fiber knows, on arrival, where it came from.
Fiber* g_left = nullptr;
Fiber* g_running = nullptr;

}  // namespace

#if defined(__x86_64__)
// Saves the registers that a call keeps (System V ABI) and takes up the other stack's.
extern "C" void tprun_switch_stack(void** save, void* load);
asm(R"(
.text
.globl tprun_switch_stack
.hidden tprun_switch_stack
.type tprun_switch_stack,@function
tprun_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tprun_switch_stack,.-tprun_switch_stack
)");
#endif

void Fiber::AllocateStack() {
  void* memory = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
    std::perror("stack of an emulated GPU thread");
    std::abort();
  }
  stack_ = static_cast<char*>(memory) + kPage;
  bottom_ = stack_;
  size_ = kStackBytes;
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  if (stack_ != nullptr && thread_record_ != nullptr) __tsan_destroy_fiber(thread_record_);
#endif
#if !defined(__x86_64__)
  delete static_cast<ucontext_t*>(stack_pointer_);
#endif
  if (stack_ != nullptr) munmap(stack_ - kPage, kPage + kStackBytes);
}

void Fiber::Start(void (*entry)()) {
  if (stack_ == nullptr) AllocateStack();
  entry_ = entry;
  fake_stack_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  if (!left_cleanly_) __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
  left_cleanly_ = false;
#if defined(__SANITIZE_THREAD__)
  if (thread_record_ == nullptr) thread_record_ = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
  // As if Entry had been called: six registers, its address, and where it would return to.
  void** top = reinterpret_cast<void**>(stack_ + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::Entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#else
  if (stack_pointer_ == nullptr) stack_pointer_ = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(stack_pointer_);
  getcontext(context);
  context->uc_stack.ss_sp = stack_;
  context->uc_stack.ss_size = kStackBytes;
  context->uc_link = nullptr;
  makecontext(context, &Fiber::Entry, 0);
#endif
}

void Fiber::Entry() {
  Arrived();
  g_running->entry_();
  std::abort();  // an entry that returned
}

void Fiber::Arrived() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(g_running->fake_stack_, &bottom, &size);
  if (g_left->stack_ == nullptr) {  // the caller's own stack, met for the first time
    g_left->bottom_ = bottom;
    g_left->size_ = size;
  }
#endif
}

void Fiber::SwitchTo(Fiber& from, Fiber& to, [[maybe_unused]] bool finished) {
  g_left = &from;
  g_running = &to;
  from.left_cleanly_ = finished;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(finished ? nullptr : &from.fake_stack_, to.bottom_, to.size_);
#endif
#if defined(__SANITIZE_THREAD__)
  if (from.thread_record_ == nullptr) from.thread_record_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.thread_record_, 0);
#endif
#if defined(__x86_64__)
  tprun_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#else
  if (from.stack_pointer_ == nullptr) from.stack_pointer_ = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.stack_pointer_),
              static_cast<ucontext_t*>(to.stack_pointer_));
#endif
  Arrived();
}

}  // namespace cuda_emulation
