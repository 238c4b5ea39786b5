#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tprun {

// FP8 E4M3FN (arXiv 2209.05433): a sign, 4 bits of exponent with bias 7, 3 of mantissa, no
// infinity; 0x7f and 0xff are NaN.
inline constexpr float kLargestE4M3 = 448;

// The value of each byte.
inline constexpr std::array<float, 256> kE4M3Values = [] {
  std::array<float, 256> values = {};
  for (int bits = 0; bits < 128; ++bits) {
    const int exponent = bits >> 3, mantissa = bits & 7;
    float value = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa) * 0x1p-9f;
    for (int i = 1; i < exponent; ++i) value *= 2;
    if (bits == 0x7f) value = std::numeric_limits<float>::quiet_NaN();
    values[bits] = value;
    values[bits + 128] = -value;
  }
  return values;
}();

inline float FromE4M3(uint8_t bits) { return kE4M3Values[bits]; }

// Rounds to nearest even and saturates; NaN stays NaN.
inline uint8_t ToE4M3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  const float magnitude = std::min(std::fabs(value), kLargestE4M3);
  // Steps of 2^-9 below 2^-6, of an eighth of the power of two above.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  // A carry out of the mantissa goes into the exponent by itself.
  return static_cast<uint8_t>(sign | (((exponent + 6) << 3) + steps));
}

}  // namespace tprun
