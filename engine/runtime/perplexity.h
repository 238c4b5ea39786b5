#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "engine/runtime/engine.h"

namespace tprun {

// How a text is cut: windows of `window` tokens begin every `stride` tokens, whole ones only; of
// each, the first `skip` + 1 tokens are only context for those after them. stride == window and
// skip == window / 2 is what llama.cpp's perplexity does; stride == window - skip scores every
// token after the first skip once, as the strided evaluation of Hugging Face does.
struct PerplexityOptions {
  int64_t window = 512;
  int64_t stride = 512;
  int64_t skip = 256;
  int32_t bos_id = -1;  // stands in place of each window's first token; -1: nothing does
};

struct PerplexityResult {
  int64_t windows = 0;        // done
  int64_t tokens = 0;         // scored
  double mean_nll = 0;        // negative log likelihood per scored token, nats
  double perplexity = 0;      // exp(mean_nll)
  double standard_error = 0;  // of the perplexity, tokens taken as independent
  double seconds = 0;
};

// InvalidArgument when the options are no such cut, or a text of so many tokens has no window.
absl::Status CheckPerplexity(const PerplexityOptions& options, int64_t tokens);

// Windows of a text of so many tokens.
int64_t CountWindows(const PerplexityOptions& options, int64_t tokens);

// Called on rank 0 after each window.
using OnWindow = std::function<void(const PerplexityResult& so_far)>;

// How well the model foretells a text. Every rank calls it; `ids` count on rank 0 only, and the
// result is there. The engine's context holds a window; its logit_rows should be more than one.
absl::StatusOr<PerplexityResult> MeasurePerplexity(Engine& engine, Communicator& world,
                                                   ThreadPool& pool, absl::Span<const int32_t> ids,
                                                   const PerplexityOptions& options,
                                                   const OnWindow& on_window);

}  // namespace tprun
