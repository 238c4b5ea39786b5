#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/experts.h"
#include "engine/kernels/cuda/stack.h"

namespace tprun::cuda {

// The matrices of experts, each of `one`'s shape, one below the other.
struct ExpertStack {
  Matrix one;
  const float* bias = nullptr;  // or none
  int64_t bytes = 0;            // of one
};

// Products with the chosen experts. Nothing depends on the choice but on the device: launches are
// as many as there may be, and can be recorded. Of some tokens each expert's weights are read once
// for every eight that chose it, of many (expert_tiles.h) for every 64.
class ExpertProducts {
 public:
  // `workspace` is kCudaKernelsWorkspaceBytes on the device.
  ExpertProducts(const Stream& stream, char* workspace) : stream_(stream), workspace_(workspace) {}

  absl::Status Gated(const float* x, const ExpertStack& gate, const ExpertStack& up, Gate kind,
                     const Choice& choice, float* out, float* up_out) const;
  absl::Status Sum(const float* h, const ExpertStack& down, const Choice& choice, float* out) const;

 private:
  VisitLists Lists() const;
  // `can_tile`: TileExperts takes what is multiplied.
  absl::StatusOr<MatrixStack> StackOf(const Choice& choice, bool can_tile) const;
  absl::Status GatedPart(const float* x, const ExpertStack& gate, const ExpertStack& up, Gate kind,
                         const Choice& choice, float* out, float* up_out) const;

  const Stream stream_;
  char* const workspace_;
};

// Product of a stack with rows of x at `x`. `up` with a gate only.
absl::Status MultiplyStack(const Stream& stream, const MatrixStack& stack, int64_t tokens,
                           const float* x, const ExpertStack& w, const ExpertStack* up, Gate gate,
                           float* out, int64_t out_stride);

}  // namespace tprun::cuda
