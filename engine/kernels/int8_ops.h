#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "engine/format/weight_format.h"
#include "engine/kernels/arrange.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// Products of quantised weights with activations that are rounded to 8 or 16 bits, a scale per
// block of the weights' format, so that a rank with a part of the columns rounds as one that has
// them all.
//
// Weights are read in tiles (see arrange.h), so that a vector of 32-bit lanes is 4 columns of 16
// rows.

inline constexpr int64_t kGroupColumns = 32;  // activations are met in groups of so many columns

// The column at place i of a group whose formats have neighbours in the nibbles of a byte: 4 low
// nibbles of 4 bytes come before their high ones.
inline constexpr int64_t PairedColumn(int64_t i) { return i / 8 * 8 + i % 4 * 2 + i / 4 % 2; }

// 32 columns of one token. Rounded to 8 bits value i is scale * q[0][i]; to 16 bits it is scale *
// (256 * q[0][i] + q[1][i]), which a second pass of the same products takes.
struct Int8Group {
  int8_t q[2][kGroupColumns];
  // Of all columns, or of their halves where the format has halves: less the sum of the values
  // times the format's offset.
  int32_t start[2];
  float sum;    // of the values
  float scale;  // of the block
  // The sums of the values of the next four groups, or halves of two, in parts of kSumPartBits
  // bits, the least first: what bytes of minima are multiplied by. In the first of those groups.
  int8_t sum_parts[3][4];
};
inline constexpr int kSumPartBits = 7;

// The groups of a token that products take at a time. No block of weights is longer; the last panel
// of a row may have fewer.
inline constexpr int64_t kPanelGroups = 8;
struct Int8Panel {
  Int8Group groups[kPanelGroups];
};
inline constexpr int64_t PanelsOf(int64_t columns) {
  const int64_t panel = kPanelGroups * kGroupColumns;
  return (columns + panel - 1) / panel;
}
// Products may read, but do not use, less than so many panels behind the last.
inline constexpr int64_t kPanelsBehind = 8;

struct Int8Problem {
  const Int8Panel* x = nullptr;  // [panels, tokens]
  int64_t tokens = 0;
  WeightMatrix w;  // arranged
  const float* bias = nullptr;
  float* out = nullptr;
  int64_t out_stride = 0;
  absl::Span<const Units> units;  // of a block of w
};

// Tiles [tile_begin, tile_end) for tokens [token_begin, token_end), at most kInt8Tokens.
struct Int8Part {
  int64_t tile_begin;
  int64_t tile_end;
  int64_t token_begin;
  int64_t token_end;
};
// Their sums for two tiles stay in L1, with a panel of the weights.
inline constexpr int64_t kInt8Tokens = 128;
inline constexpr int64_t kInt8ScratchFloats = 2 * kTileRows * (kInt8Tokens + kPanelsBehind);

// A weight format as these products read it (see int8_formats-inl.h).
struct Int8Format {
  const WeightFormat* format;
  absl::Span<const Units> units;
  int offset;        // weights are scale * (u - offset) - min, with u in [0, 255]
  bool halves;       // 16 columns, not 32, have a scale or minimum
  bool pairs;        // of 8 columns the even ones come first, as in PairedColumn()
  bool byte_minima;  // groups have minima of their own, which meet Int8Group::sum_parts
  // With activations of 1 or 2 planes.
  void (*multiply[2])(const Int8Problem& problem, const Int8Part& part, float* scratch);
};

// nullptr where the format has no such product on this machine.
const Int8Format* FindInt8Format(const WeightFormat& format);
// The same among the formats of one file.
const Int8Format* FindInt8Block(const WeightFormat& format);
const Int8Format* FindInt8KQuant(const WeightFormat& format);
const Int8Format* FindInt8Group(const WeightFormat& format);

// The groups of tokens [token_begin, token_end) of x [tokens, columns], of 1 or 2 planes; out as
// Int8Problem::x.
void QuantizeTokens(const Int8Format& format, int planes, const float* x, int64_t columns,
                    int64_t tokens, int64_t token_begin, int64_t token_end, Int8Panel* out);

}  // namespace tprun::cpu
