#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "engine/format/weight_format.h"

namespace tprun {

// Integers in groups, as GPTQ, AWQ and compressed-tensors store them: blocks of a whole group,
//
//   scale      f16, bf16 or f32
//   zero       u8
//   quants     of 4 bits (consecutive values, the first in the low nibble) or 8 bits
//
// value = scale * (quant - zero), exact in f32. Names: int4_g128 with an f16 scale, int4_g128_bf16,
// int8_g128_f32, ...
inline constexpr int kIntGroupFormatCount = 12;
extern const WeightFormat kIntGroupFormats[kIntGroupFormatCount];

// The format whose groups are the largest that divide `group`; nullptr if there is none.
const WeightFormat* FindIntGroupFormat(int bits, int64_t group, DType scale);

}  // namespace tprun
