#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/communicator.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/sampler.h"

namespace tprun {

struct GenerateOptions {
  int64_t max_tokens = 256;
  std::vector<int32_t> end_ids;  // end the text and are not given out
  SamplerOptions sampler;
  // So many tokens at the start of the prompt are in sequence 0's cache already, from the call
  // before: less than all of them. They go through the model again where sliding windows have
  // passed them.
  int64_t reuse = 0;
  // Rank 0: asked between the blocks of the prompt; true gives it up.
  std::function<bool()> stop = nullptr;
};

struct GenerateResult {
  std::vector<int32_t> ids;  // new tokens, without prompt and end token
  int64_t prompt_tokens = 0;
  int64_t fresh_tokens = 0;    // of the prompt, that were not taken from the cache
  double prefill_seconds = 0;  // until the first token is known
  double decode_seconds = 0;   // for the tokens after the first
  // So many of `ids` went through the model, and are in the cache after the prompt.
  int64_t decode_steps = 0;
  bool ended = false;  // by an end token; else by max_tokens, the context or the caller
  // GenerateOptions::stop said so, on every rank: no token was made, and of the cache's tokens at
  // most the first `reuse` may be built on, none where windows have passed them (Reusable).
  bool stopped = false;
};

// Takes each new token as it is made, on rank 0; false ends the text.
using OnToken = std::function<bool(int32_t id)>;

// InvalidArgument when a prompt of so many tokens is empty or leaves no room in the context.
absl::Status CheckPromptLength(int64_t tokens, int64_t context);

// Continues `prompt` on sequence 0. Every rank calls it with the same engine plan; prompt, options
// and callback count on rank 0 only, which samples and tells the others. Stops by itself at the end
// of the context. Fails as CheckPromptLength does.
absl::StatusOr<GenerateResult> Generate(Engine& engine, Communicator& world,
                                        absl::Span<const int32_t> prompt,
                                        const GenerateOptions& options, const OnToken& on_token);

}  // namespace tprun
