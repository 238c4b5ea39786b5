#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "engine/kernels/cpu_features.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/plain_tiles.h"
#include "engine/kernels/weights_ahead.h"

namespace tprun::cpu {

// MatMuls with arranged weights of plain_tiles.h over a thread pool, which outlives it.
class PlainMatMul {
 public:
  // round: activations that bf16 weights meet, to bf16, where the CPU has a fast product of them.
  PlainMatMul(ThreadPool* pool, WeightsAhead* ahead, bool round)
      : pool_(pool),
        ahead_(ahead),
        round_(round && HasBf16Dot()),
        scratch_(pool->num_threads()),
        rounded_(pool->num_threads()) {}

  // Whether all weights have a format that these products know; they were then arranged.
  static bool Takes(absl::Span<const Projection> projections);

  // As Kernels::MatMuls.
  void Run(const float* x, absl::Span<const Projection> projections, int64_t tokens);

 private:
  void RunChunk(const float* x, absl::Span<const Projection> projections, int64_t tokens,
                int64_t first);
  PackedTokens Pack(const float* x, int64_t columns, int64_t tokens, bool bf16);

  ThreadPool* const pool_;
  WeightsAhead* const ahead_;
  const bool round_;
  std::vector<std::vector<float>> scratch_;     // of each worker
  std::vector<std::vector<uint32_t>> rounded_;  // likewise
  std::vector<uint32_t> packed_[2];             // x as it is, and rounded
};

}  // namespace tprun::cpu
