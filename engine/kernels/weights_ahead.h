#pragma once

#include <unordered_map>
#include <vector>

#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// Foretells which weights the product after this one begins with: those that came after it in the
// step before. While one thread does what is between two products (norms, rounding of activations),
// the others bring these into their caches, so that the memory does not rest.
class WeightsAhead {
 public:
  explicit WeightsAhead(ThreadPool* pool) : pool_(pool), starts_(pool->num_threads()) {}

  // To be called before a product of few tokens, whose job is the tiles of these matrices, one
  // after the other. What is fetched ahead of the one after it: of each worker its first weights
  // there; empty where that is not known.
  const std::vector<const char*>& Begin(absl::Span<const Projection> projections);

 private:
  struct Next {
    std::vector<const char*> starts;  // of each worker
    bool steady = false;              // was the same twice in a row
  };

  ThreadPool* const pool_;
  const std::vector<const char*> nothing_;
  std::vector<const char*> starts_;
  const char* last_ = nullptr;
  std::unordered_map<const char*, Next> after_;  // a product, by its first weight
};

}  // namespace tprun::cpu
