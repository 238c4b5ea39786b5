#pragma once

#include <cstdint>

#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/stack.h"

// A product of some matrices with a few tokens, as its launches take it.

namespace tprun::cuda {

struct MatVecArguments {
  MatVecTarget targets[kMostProjections];
  int count = 0;
  Gate gate = Gate::kNone;  // with one, tiles are 16 rows of targets 0 and the same of target 1
  const float* x = nullptr;
  int64_t columns = 0;
  int tokens = 0;
  MatVecWorkspace work;
  MatrixStack stack;  // with items: targets are those of one matrix
};

// Each in a file of its own: they compile for long.
cudaError_t LaunchMatVecBf16(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecF16(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecQ8_0(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecQ4_0(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecMxfp4(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecFp8(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecInt4(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecInt4Bf16(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecQ4_K(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecQ5_K(const Stream&, int tiles, const MatVecArguments&);
cudaError_t LaunchMatVecQ6_K(const Stream&, int tiles, const MatVecArguments&);

}  // namespace tprun::cuda
