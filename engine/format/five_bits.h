#pragma once

#include <cstdint>
#include <cstring>

#include "engine/format/blocks.h"

namespace tprun {

// 32 values of 5 bits as q5_0 and q5_1 keep them: their high bits in a little-endian u32, then 16
// bytes of nibbles.

inline int FiveBits(const uint8_t* packed, int i) {
  const int high = (packed[i / 8] >> i % 8) & 1;
  return NibbleOf32(packed + 4, i) | high << 4;
}

inline void PutFiveBits(int value, int i, uint8_t* packed) {
  packed[i / 8] = static_cast<uint8_t>(packed[i / 8] | (value >> 4) << i % 8);
  PutNibbleOf32(value & 15, i, packed + 4);
}

}  // namespace tprun
