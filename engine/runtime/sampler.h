#pragma once

#include <cstdint>
#include <random>

#include "absl/status/status.h"
#include "engine/kernels/sampling.h"

namespace tprun {

// How the next token is drawn. Filters apply in this order: repetition penalty, temperature, top-k,
// top-p, min-p.
struct SamplerOptions {
  float temperature = 0;  // 0: greedy, the most likely token (the lowest id among equals)
  int top_k = 0;          // keep the k most likely; 0: all
  float top_p = 1;        // keep the most likely up to this probability together (arXiv 1904.09751)
  float min_p = 0;        // keep those at least this likely relative to the best (arXiv 2407.01082)
  // Divides positive and multiplies negative logits of tokens seen (arXiv 1909.05858); 1: none.
  float repetition_penalty = 1;
  uint64_t seed = 0;

  // The most likely token and nothing else: then Engine's greedy output will do.
  bool greedy() const { return temperature == 0 && repetition_penalty == 1; }
};

// InvalidArgument names the option, what is allowed and what was given.
absl::Status ValidateSampler(const SamplerOptions& options);

// Internal: what is said when a model gives no finite logit.
absl::Status NoFiniteLogit();

// Makes the requests by which tokens are drawn one after another (Kernels::Sample); the same seed
// and logits give the same tokens. Infinite and NaN logits are never drawn.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  SampleRequest Next();

 private:
  SampleRequest request_;
  std::mt19937_64 random_;
};

}  // namespace tprun
