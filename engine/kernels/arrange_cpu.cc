#include <algorithm>
#include <cstring>

#include "engine/kernels/arrange.h"

namespace tprun::cpu {
namespace {

struct Tile {
  int64_t rows;
  int64_t row_bytes;
  uint8_t* data;
};

Tile TileAt(const WeightMatrix& w, int64_t tile, uint8_t* data) {
  const int64_t row_bytes = w.format->Bytes(w.columns);
  return {std::min(kTileRows, w.rows - tile * kTileRows), row_bytes,
          data + tile * kTileRows * row_bytes};
}

template <int kBytes>
void SpreadUnits(const uint8_t* in, int64_t row_bytes, int64_t rows, int64_t count, uint8_t* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(out + (i * rows + r) * kBytes, in + r * row_bytes + i * kBytes, kBytes);
    }
  }
}

}  // namespace

void ArrangeTiles(absl::Span<const Units> units, const WeightMatrix& w, int64_t tile_begin,
                  int64_t tile_end, uint8_t* data, uint8_t* scratch) {
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const Tile tile = TileAt(w, t, data);
    std::memcpy(scratch, tile.data, tile.rows * tile.row_bytes);
    uint8_t* out = tile.data;
    for (int64_t at = 0; at < tile.row_bytes;) {
      for (const Units& run : units) {
        const uint8_t* in = scratch + at;
        if (run.bytes == 4) SpreadUnits<4>(in, tile.row_bytes, tile.rows, run.count, out);
        if (run.bytes == 2) SpreadUnits<2>(in, tile.row_bytes, tile.rows, run.count, out);
        if (run.bytes == 1) SpreadUnits<1>(in, tile.row_bytes, tile.rows, run.count, out);
        at += run.bytes * run.count;
        out += tile.rows * run.bytes * run.count;
      }
    }
  }
}

void GatherRow(absl::Span<const Units> units, const WeightMatrix& w, int64_t row, uint8_t* out) {
  const auto* data = static_cast<const uint8_t*>(w.data);
  const int64_t first = row / kTileRows * kTileRows;
  const int64_t rows = std::min(kTileRows, w.rows - first);
  const int64_t row_bytes = w.format->Bytes(w.columns);
  const uint8_t* in = data + first * row_bytes;
  for (const uint8_t* end = out + row_bytes; out < end;) {
    for (const Units& run : units) {
      for (int64_t i = 0; i < run.count; ++i) {
        std::memcpy(out, in + (row - first) * run.bytes, run.bytes);
        in += rows * run.bytes;
        out += run.bytes;
      }
    }
  }
}

void SpreadBlock(absl::Span<const Units> units, const uint8_t* in, int64_t rows, uint8_t* out) {
  for (const Units& run : units) {
    for (int64_t i = 0; i < run.count; ++i) {
      std::memcpy(out, in, rows * run.bytes);
      in += rows * run.bytes;
      out += kTileRows * run.bytes;
    }
  }
}

}  // namespace tprun::cpu
