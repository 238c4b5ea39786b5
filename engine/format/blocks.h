#pragma once

#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace tprun {

// What the formats of fixed-size blocks share. Blocks lie anywhere: nothing here needs alignment.

inline float HalfAt(const uint8_t* bytes) {
  Float16 half;
  std::memcpy(&half, bytes, sizeof(half));
  return ToFloat(half);
}

inline void PutHalf(float value, uint8_t* bytes) {
  const Float16 half = ToFloat16(value);
  std::memcpy(bytes, &half, sizeof(half));
}

// 16 bytes hold 32 values of 4 bits: the low nibbles are values 0-15, the high ones 16-31.
inline int NibbleOf32(const uint8_t* nibbles, int i) {
  return (nibbles[i % 16] >> 4 * (i / 16)) & 15;
}

inline void PutNibbleOf32(int value, int i, uint8_t* nibbles) {
  nibbles[i % 16] = static_cast<uint8_t>(nibbles[i % 16] | value << 4 * (i / 16));
}

// A format's dequantize and quantize out of functions for one block.
template <auto kDecode, int64_t kElements, int64_t kBytes>
void DecodeAll(const void* blocks, float* out, int64_t count) {
  const uint8_t* block = static_cast<const uint8_t*>(blocks);
  for (int64_t b = 0; b < count / kElements; ++b) {
    kDecode(block + b * kBytes, out + b * kElements);
  }
}

template <auto kEncode, int64_t kElements, int64_t kBytes>
void EncodeAll(const float* in, void* blocks, int64_t count) {
  uint8_t* block = static_cast<uint8_t*>(blocks);
  for (int64_t b = 0; b < count / kElements; ++b) {
    std::memset(block + b * kBytes, 0, kBytes);
    kEncode(in + b * kElements, block + b * kBytes);
  }
}

}  // namespace tprun
