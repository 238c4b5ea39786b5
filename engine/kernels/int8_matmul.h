#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "engine/kernels/int8_ops.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/weights_ahead.h"

namespace tprun::cpu {

// MatMuls with rounded activations over a thread pool, which outlives it.
class Int8MatMul {
 public:
  // planes: bytes of an activation, 1 or 2.
  Int8MatMul(ThreadPool* pool, WeightsAhead* ahead, int planes)
      : pool_(pool), ahead_(ahead), planes_(planes), scratch_(pool->num_threads()) {}

  // Whether all weights have a format that these products know; they were then arranged.
  static bool Takes(absl::Span<const Projection> projections);

  // As Kernels::MatMuls.
  void Run(const float* x, absl::Span<const Projection> projections, int64_t tokens);

 private:
  void RunChunk(const float* x, absl::Span<const Projection> projections, int64_t tokens,
                int64_t first);
  const Int8Panel* Quantize(const Int8Format& format, const float* x, int64_t columns,
                            int64_t tokens, std::vector<Int8Panel>& out);

  ThreadPool* const pool_;
  WeightsAhead* const ahead_;
  const int planes_;
  std::vector<std::vector<float>> scratch_;        // of each worker
  std::vector<std::vector<Int8Panel>> quantized_;  // x, once for each way to quantise it
};

}  // namespace tprun::cpu
