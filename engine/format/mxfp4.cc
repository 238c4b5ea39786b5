#include <algorithm>
#include <array>
#include <cmath>

#include "engine/format/blocks.h"
#include "engine/format/level_table.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 32;
constexpr int kBytes = 17;

// E2M1, OCP Microscaling Formats (MX) 1.0. Nibble 8 is -0, which decodes to 0.
constexpr std::array<float, 16> kLevels = {0, 0.5f,  1,  1.5f,  2,  3,  4,  6,
                                           0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

// As in the file: the exponent e, 16 bytes of nibbles; value = 2^(e - 127) * level[nibble].
void Decode(const uint8_t* block, float* out) {
  const float scale = std::ldexp(1.0f, block[0] - 127);
  for (int i = 0; i < kElements; ++i) out[i] = scale * kLevels[NibbleOf32(block + 1, i)];
}

// The exponent of the standard: that of the largest value, less 2, the exponent of 6.
void Encode(const float* in, uint8_t* block) {
  float largest = 0;
  for (int i = 0; i < kElements; ++i) {
    if (std::isfinite(in[i])) largest = std::max(largest, std::fabs(in[i]));
  }
  const int exponent = largest > 0 ? std::ilogb(largest) - 2 : 0;
  block[0] = static_cast<uint8_t>(std::clamp(exponent + 127, 0, 254));
  const float inverse = std::ldexp(1.0f, 127 - block[0]);
  for (int i = 0; i < kElements; ++i) {
    const float x = std::isnan(in[i]) ? 0 : in[i] * inverse;
    PutNibbleOf32(NearestLevel(kLevels, x), i, block + 1);
  }
}

}  // namespace

const WeightFormat kMxfp4Format = {.name = "mxfp4",
                                   .ggml_type = 39,
                                   .safetensors = "",
                                   .block_elements = kElements,
                                   .block_bytes = kBytes,
                                   .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                   .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
