#pragma once

#include <cstdint>
#include <vector>

#include "engine/kernels/arrange.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// Products with f32, f16 and bf16 weights that lie in tiles (see arrange.h): one column of 16 rows
// after another, of bf16 two columns at a time. So matrices are read as one stream, and a tile
// meets tokens without being turned first. Blocks of float levels with a scale (fp8, nf4, fp4) lie
// likewise and are decoded to f32, some columns at a time (scaled_blocks-inl.h).

// The units of a whole row; none where the format or this instruction set has no such product.
std::vector<Units> PlainUnits(const WeightFormat& format, int64_t columns);

// Activations as the products take them: elements of 4 bytes, which are f32 or two columns rounded
// to bf16 (a last one with a zero). Tokens are met in groups of MostPlainTokens() and, of what is
// left, of the largest powers of 2 below; a group has element 0 of all its tokens, element 1 of
// all, and so on. The group that begins with token t is, of column block b, at
// data + (b * tokens + t) * block_elements.
struct PackedTokens {
  const void* data;
  int64_t tokens;
  int64_t block_elements;
  int64_t block_columns;
  bool bf16;
};
int64_t MostPlainTokens();

// To bf16 in pairs, (columns + 1) / 2 elements.
void RoundToPairs(const float* x, int64_t columns, uint32_t* out);
// The groups of some tokens, of which the first are whole; rows: `count` elements of each token.
void InterleaveGroups(const uint32_t* const* rows, int64_t tokens, int64_t count,
                      int64_t block_elements, uint32_t* out);

struct PlainProblem {
  PackedTokens x;
  WeightMatrix w;  // arranged
  const float* bias = nullptr;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Up to so many tokens a tile goes over all columns at once, from more on block by block.
inline constexpr int64_t kFewTokens = 12;

// Tiles [tile_begin, tile_end). scratch: PlainScratchFloats(tokens, columns).
int64_t PlainScratchFloats(int64_t tokens, int64_t columns);
void MultiplyPlainTiles(const PlainProblem& problem, int64_t tile_begin, int64_t tile_end,
                        float* scratch);

}  // namespace tprun::cpu
