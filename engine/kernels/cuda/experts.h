#pragma once

#include <cstdint>

#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/stack.h"

namespace tprun::cuda {

// Mixtures of experts apart from their products.

struct RouterArguments {
  const float* logits = nullptr;       // [tokens, count]
  const float* choice_bias = nullptr;  // or none
  int count = 0, per_token = 0;
  bool sigmoid = false, normalize = true;
  float scale = 1;
  int groups = 1, groups_per_token = 1;
  int32_t* ids = nullptr;
  float* weights = nullptr;
};
constexpr int kMostExperts = 2048;  // what a block's shared memory holds

cudaError_t RouteExperts(const Stream& stream, const RouterArguments& arguments, int64_t tokens);

// As ExpertChoice in kernels.h.
struct Choice {
  const int32_t* ids = nullptr;
  const float* weights = nullptr;
  int64_t tokens = 0;
  int per_token = 0, first_expert = 0, experts = 0, slots = 0;
};

// The choices expert by expert, cut into items of at most `most` visits.
struct VisitLists {
  int most = kMostMatVecTokens;
  StackItem* list = nullptr;
  int32_t* count = nullptr;
  int32_t* visits = nullptr;
};
cudaError_t GroupChoices(const Stream& stream, const Choice& choice, const VisitLists& to);

// gate = act(gate) * up in the slots that are used; both [tokens, slots, columns].
cudaError_t ActivateSlots(const Stream& stream, Gate kind, float* gate, const float* up,
                          int64_t columns, const Choice& choice);
// out[t] += the sum over slots of weight * y[t, slot]; y [tokens, slots, columns].
cudaError_t SumSlots(const Stream& stream, const float* y, int64_t columns, const Choice& choice,
                     float* out);
// x[t, i] *= sigmoid(gate[t]).
cudaError_t SigmoidScale(const Stream& stream, float* x, const float* gate, int64_t tokens,
                         int64_t columns);

}  // namespace tprun::cuda
