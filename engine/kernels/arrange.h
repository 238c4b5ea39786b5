#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// The order in which products read weights: tiles of kTileRows rows, so that a vector holds the
// same columns of many rows. In place of block b of each row, one after the other, lie unit 0 of
// block b of every row of the tile, unit 1 of every row, and so on, with units of 1, 2 or 4 bytes
// in the order of the format's own block. A last tile of fewer rows has as many units beside each
// other.
inline constexpr int64_t kTileRows = 16;

// `count` units of `bytes` bytes each.
struct Units {
  int bytes;
  int64_t count;
};

// Arranges tiles [tile_begin, tile_end) of a matrix in place, whose blocks are `units`. scratch:
// kTileRows * bytes of a row.
void ArrangeTiles(absl::Span<const Units> units, const WeightMatrix& w, int64_t tile_begin,
                  int64_t tile_end, uint8_t* data, uint8_t* scratch);

// Row `row` of an arranged matrix as it was; out: bytes of a row.
void GatherRow(absl::Span<const Units> units, const WeightMatrix& w, int64_t row, uint8_t* out);

// A block of a tile of fewer rows, spread as one of kTileRows; what it leaves open stays as it is.
void SpreadBlock(absl::Span<const Units> units, const uint8_t* in, int64_t rows, uint8_t* out);

}  // namespace tprun::cpu
