// Which kernel multiplies matrices with a few tokens.

#include "engine/kernels/cuda/matvec.h"

#include "engine/kernels/cuda/expert_tiles.h"
#include "engine/kernels/cuda/format_ops.h"

namespace tprun::cuda {

bool CanTile(const Matrix& w) {
  if (reinterpret_cast<uintptr_t>(w.data) % 16 != 0 || w.columns == 0) return false;
  switch (w.format) {
    case Format::kF32:
      return false;
    case Format::kF16:
    case Format::kBF16:
      return w.columns % 8 == 0;
    default:
      return IsArranged(w.format);
  }
}

cudaError_t RowMatVec(const Stream& stream, Format format, const MatVecArguments& arguments) {
  return OpsOf(format)->multiply(stream, format, arguments);
}

cudaError_t TileExperts(const Stream& stream, Format format, const MatVecArguments& arguments) {
  for (const auto launch : {&LaunchPlainExpertTiles, &LaunchBlockExpertTiles,
                            &LaunchPackedExpertTiles, &LaunchKExpertTiles}) {
    const cudaError_t error = launch(stream, format, arguments);
    if (error != cudaErrorInvalidValue) return error;
  }
  return cudaErrorInvalidValue;
}

cudaError_t TileMatVec(const Stream& stream, Format format, MatVecArguments arguments) {
  constexpr int kRows = 32;  // of a tile
  int tiles = 0;
  for (int i = 0; i < arguments.count; ++i) {
    arguments.targets[i].first_tile = tiles;
    tiles += static_cast<int>((arguments.targets[i].rows + kRows - 1) / kRows);
  }
  if (arguments.gate != Gate::kNone) {
    tiles = static_cast<int>((arguments.targets[0].rows + kRows / 2 - 1) / (kRows / 2));
  }
  switch (format) {
    case Format::kF16:
      return LaunchMatVecF16(stream, tiles, arguments);
    case Format::kBF16:
      return LaunchMatVecBf16(stream, tiles, arguments);
    case Format::kQ8_0:
      return LaunchMatVecQ8_0(stream, tiles, arguments);
    case Format::kQ4_0:
      return LaunchMatVecQ4_0(stream, tiles, arguments);
    case Format::kMxfp4:
      return LaunchMatVecMxfp4(stream, tiles, arguments);
    case Format::kFp8:
      return LaunchMatVecFp8(stream, tiles, arguments);
    case Format::kInt4G128:
      return LaunchMatVecInt4(stream, tiles, arguments);
    case Format::kInt4G128Bf16:
      return LaunchMatVecInt4Bf16(stream, tiles, arguments);
    case Format::kQ4_K:
      return LaunchMatVecQ4_K(stream, tiles, arguments);
    case Format::kQ5_K:
      return LaunchMatVecQ5_K(stream, tiles, arguments);
    case Format::kQ6_K:
      return LaunchMatVecQ6_K(stream, tiles, arguments);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace tprun::cuda
