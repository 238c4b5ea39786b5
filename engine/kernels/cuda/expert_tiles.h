#pragma once

#include <cstdint>

#include "engine/kernels/cuda/matvec.h"

// Products of experts with many tokens: an expert's weights are decoded once for every
// kExpertTileTokens tokens that chose it.

namespace tprun::cuda {

constexpr int kExpertTileTokens = 64;

// Whether experts are expected to have more tokens each than one pass of the kernels for few: what
// the choices are, only the device knows. `slots`: of a token, at most.
inline bool UseExpertTiles(int64_t tokens, int slots, int experts) {
  return tokens * slots > int64_t{kMostMatVecTokens} * experts;
}

// TileMatVec for a stack with a list of items of up to kExpertTileTokens visits. x is split into
// two bf16 terms: 17 bits of it are left.
cudaError_t TileExperts(const Stream& stream, Format format, const MatVecArguments& arguments);

// Each in a file of its own: they compile for long. cudaErrorInvalidValue: the format is another's.
cudaError_t LaunchPlainExpertTiles(const Stream&, Format, const MatVecArguments&);
cudaError_t LaunchBlockExpertTiles(const Stream&, Format, const MatVecArguments&);
cudaError_t LaunchPackedExpertTiles(const Stream&, Format, const MatVecArguments&);
cudaError_t LaunchKExpertTiles(const Stream&, Format, const MatVecArguments&);

}  // namespace tprun::cuda
