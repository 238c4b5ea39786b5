#include "tests/cuda_emulation/executor.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/cuda_emulation/fiber.h"

// The sections of static shared memory (cuda_runtime.h); those that are empty do not exist.
#define TPRUN_SHARED_SECTION(depth)                                          \
  extern unsigned char __start_tprun_shared_##depth[] __attribute__((weak)); \
  extern unsigned char __stop_tprun_shared_##depth[] __attribute__((weak));
TPRUN_SHARED_SECTION(0)
TPRUN_SHARED_SECTION(1)
TPRUN_SHARED_SECTION(2)
TPRUN_SHARED_SECTION(3)
TPRUN_SHARED_SECTION(4)
#undef TPRUN_SHARED_SECTION

namespace cuda_emulation {

Dim3 g_thread_index, g_block_index, g_block_dim, g_grid_dim;

namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kMostThreads = 1024;

enum class State { kReady, kAtBarrier, kInWarp, kFinished };

struct Thread {
  Fiber fiber;
  State state = State::kFinished;
  int exchanges = 0;  // warp operations so far
};

struct Warp {
  int arrived = 0;
  const char* operation = nullptr;
  // Two sets of slots: a lane may be at the next operation before all have read this one's.
  alignas(16) unsigned char slots[2][kWarpSize * kMostExchanged];
};

std::string Text(Dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

// Not memset: what lies between the variables is AddressSanitizer's.
__attribute__((no_sanitize_address)) void FillWithNan(unsigned char* begin,
                                                      const unsigned char* end) {
  for (volatile unsigned char* at = begin; at < end; ++at) *at = 0xff;
}

void FillStaticShared() {
  FillWithNan(__start_tprun_shared_0, __stop_tprun_shared_0);
  FillWithNan(__start_tprun_shared_1, __stop_tprun_shared_1);
  FillWithNan(__start_tprun_shared_2, __stop_tprun_shared_2);
  FillWithNan(__start_tprun_shared_3, __stop_tprun_shared_3);
  FillWithNan(__start_tprun_shared_4, __stop_tprun_shared_4);
}

class Executor {
 public:
  std::string Run(Dim3 grid, Dim3 block, size_t shared_bytes, ThreadBody body, void* argument);

  void SyncBlock();
  const unsigned char* Exchange(const char* operation, unsigned mask, const void* value,
                                size_t bytes);
  int lane() const { return current_ % kWarpSize; }
  unsigned char* shared() { return shared_.get(); }

 private:
  static void ThreadEntry();
  // Block `index` of the grid.
  bool RunBlock(int64_t index, size_t shared_bytes, bool reversed);
  bool RunReadyThreads(bool reversed);  // whether any ran
  bool RunReadyOf(int first, int end, bool reversed);
  void SetThreadIndex(int thread);
  void Leave(State state);
  [[noreturn]] void Fail(const char* what, const char* more = "", const char* rest = "");
  std::string WhyNobodyRuns() const;

  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::unique_ptr<unsigned char[]> shared_;
  Fiber scheduler_;
  ThreadBody body_ = nullptr;
  void* argument_ = nullptr;
  int64_t grids_ = 0;  // so far
  int count_ = 0;      // threads of a block
  int current_ = -1;   // the running one
  int at_barrier_ = 0;
  int finished_ = 0;
  std::string error_;
};

Executor& TheExecutor() {
  static Executor executor;
  return executor;
}

std::string Executor::Run(Dim3 grid, Dim3 block, size_t shared_bytes, ThreadBody body,
                          void* argument) {
  body_ = body;
  argument_ = argument;
  count_ = static_cast<int>(block.x * block.y * block.z);
  if (count_ < 1 || count_ > kMostThreads) return "a block of " + Text(block) + " threads";
  while (static_cast<int>(threads_.size()) < count_) {
    threads_.push_back(std::make_unique<Thread>());
  }
  warps_.resize((count_ + kWarpSize - 1) / kWarpSize);
  shared_.reset(new unsigned char[shared_bytes]);  // of just this size: its end is watched
  error_.clear();
  g_block_dim = block;
  g_grid_dim = grid;
  const bool last_first = grids_ / 2 % 2 == 1;
  bool reversed = grids_++ % 2 == 1;
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  for (int64_t i = 0; i < blocks; ++i, reversed = !reversed) {
    if (!RunBlock(last_first ? blocks - 1 - i : i, shared_bytes, reversed)) {
      return "block " + Text(g_block_index) + ": " + error_;
    }
  }
  shared_.reset();
  return "";
}

bool Executor::RunBlock(int64_t index, size_t shared_bytes, bool reversed) {
  const int64_t x = g_grid_dim.x, y = g_grid_dim.y;
  g_block_index = {static_cast<unsigned>(index % x), static_cast<unsigned>(index / x % y),
                   static_cast<unsigned>(index / (x * y))};
  std::memset(shared_.get(), 0xff, shared_bytes);
  FillStaticShared();
  for (int i = 0; i < count_; ++i) {
    threads_[i]->fiber.Start(&ThreadEntry);
    threads_[i]->state = State::kReady;
    threads_[i]->exchanges = 0;
  }
  for (Warp& warp : warps_) warp.arrived = 0;
  at_barrier_ = finished_ = 0;
  while (finished_ < count_) {
    const bool ran = RunReadyThreads(reversed);
    if (!ran && error_.empty()) error_ = WhyNobodyRuns();
    if (!error_.empty()) return false;
  }
  return true;
}

// Each warp goes as far as it can before the next one runs: what a missing barrier would let
// through comes through.
bool Executor::RunReadyThreads(bool reversed) {
  bool ran = false;
  for (int first = 0; first < count_; first += kWarpSize) {
    const int end = std::min(first + kWarpSize, count_);
    while (RunReadyOf(first, end, reversed)) ran = true;
    if (!error_.empty()) return false;
  }
  return ran;
}

// One turn of each thread of [first, end), of the block's other end if reversed, that can run.
bool Executor::RunReadyOf(int first, int end, bool reversed) {
  bool ran = false;
  for (int i = first; i < end; ++i) {
    const int thread = reversed ? count_ - 1 - i : i;
    if (threads_[thread]->state != State::kReady) continue;
    ran = true;
    SetThreadIndex(thread);
    Fiber::SwitchTo(scheduler_, threads_[thread]->fiber);
    if (!error_.empty()) return false;
    if (at_barrier_ == count_) {
      for (int t = 0; t < count_; ++t) threads_[t]->state = State::kReady;
      at_barrier_ = 0;
    }
  }
  return ran;
}

void Executor::SetThreadIndex(int thread) {
  current_ = thread;
  const unsigned t = thread;
  g_thread_index = {t % g_block_dim.x, t / g_block_dim.x % g_block_dim.y,
                    t / (g_block_dim.x * g_block_dim.y)};
}

void Executor::ThreadEntry() {
  Executor& executor = TheExecutor();
  executor.body_(executor.argument_);
  ++executor.finished_;
  executor.Leave(State::kFinished);
}

// Back to the scheduler; returns when it lets the thread go on.
void Executor::Leave(State state) {
  Thread& thread = *threads_[current_];
  thread.state = state;
  Fiber::SwitchTo(thread.fiber, scheduler_, state == State::kFinished);
}

// The thread's frames are left behind as they are: nothing on them may own memory.
void Executor::Fail(const char* what, const char* more, const char* rest) {
  error_ = "thread " + Text(g_thread_index) + ": " + what + more + rest;
  for (;;) Leave(State::kFinished);
}

void Executor::SyncBlock() {
  ++at_barrier_;
  Leave(State::kAtBarrier);
}

const unsigned char* Executor::Exchange(const char* operation, unsigned mask, const void* value,
                                        size_t bytes) {
  if (mask != kAllLanes) Fail(operation, " of some lanes only is not emulated");
  if (count_ % kWarpSize != 0) Fail(operation, " in a block without whole warps");
  if (bytes > kMostExchanged) Fail(operation, " of too large a value");
  Thread& thread = *threads_[current_];
  const int first = current_ - lane();
  Warp& warp = warps_[first / kWarpSize];
  unsigned char* slots = warp.slots[thread.exchanges++ % 2];
  std::memcpy(slots + lane() * kMostExchanged, value, bytes);
  if (warp.arrived == 0) {
    warp.operation = operation;
  } else if (std::strcmp(warp.operation, operation) != 0) {
    Fail(operation, ", other lanes of the warp at ", warp.operation);
  }
  if (++warp.arrived == kWarpSize) {
    warp.arrived = 0;
    for (int i = first; i < first + kWarpSize; ++i) threads_[i]->state = State::kReady;
    return slots;
  }
  Leave(State::kInWarp);
  return slots;
}

std::string Executor::WhyNobodyRuns() const {
  std::string text = std::to_string(at_barrier_) + " of " + std::to_string(count_) +
                     " threads wait at __syncthreads, " + std::to_string(finished_) +
                     " have returned";
  for (size_t w = 0; w < warps_.size(); ++w) {
    if (warps_[w].arrived == 0) continue;
    text += ", " + std::to_string(warps_[w].arrived) + " lanes of warp " + std::to_string(w) +
            " wait at " + warps_[w].operation;
  }
  return text + ": the others never come";
}

}  // namespace

std::string RunGrid(Dim3 grid, Dim3 block, size_t shared_bytes, ThreadBody body, void* argument) {
  return TheExecutor().Run(grid, block, shared_bytes, body, argument);
}

void SyncBlock() { TheExecutor().SyncBlock(); }
int LaneOfThread() { return TheExecutor().lane(); }
unsigned char* DynamicSharedMemory() { return TheExecutor().shared(); }

const unsigned char* ExchangeInWarp(const char* operation, unsigned mask, const void* value,
                                    size_t bytes) {
  return TheExecutor().Exchange(operation, mask, value, bytes);
}

}  // namespace cuda_emulation
