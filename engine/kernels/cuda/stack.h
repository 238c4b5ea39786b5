#pragma once

#include <cstdint>

#include "engine/kernels/cuda/ops.h"

// Products with many matrices at once, of which all have the same shape and lie one below the
// other: experts, or a matrix for each head. What they are is said on the device, so that a
// recorded launch serves every choice of experts.

namespace tprun::cuda {

// Some tokens that go through one expert.
struct StackItem {
  int32_t matrix;
  int32_t first_visit;  // of the list of visits
  int32_t visits;       // at most most_visits of the stack
  int32_t unused;
};

// The matrices of a launch and their rows of x and out. Block z of the grid has one item: a matrix
// and up to kMostMatVecTokens rows.
struct MatrixStack {
  int64_t matrix_bytes = 0;
  int64_t x_stride = 0;  // floats from row to row of x
  int items = 0;         // blocks in z: as many as there may be

  // Heads: item i is head i % heads of tokens from 8 (i / heads) on.
  int heads = 0;
  int64_t tokens = 0;
  int64_t x_step = 0, out_step = 0;  // floats from head to head

  // Experts: a row of `out` for each of a token's slots (ExpertChoice in kernels.h), and of x for
  // each token or, with x_by_slot, for each slot. Of a single token its choices themselves are the
  // items, `ids` of `first_expert` on; of more there are `list` and `visits`, which are slots.
  const int32_t* ids = nullptr;  // [items]
  int first_expert = 0, experts = 0;
  int slots = 1;
  bool x_by_slot = false;
  int most_visits = 0;  // of an item of the list; more than kMostMatVecTokens: TileExperts
  const StackItem* list = nullptr;
  const int32_t* count = nullptr;  // of the list
  const int32_t* visits = nullptr;
};

}  // namespace tprun::cuda
