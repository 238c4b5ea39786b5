#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kBlock = 32;
constexpr int kHalf = kBlock / 2;

// As in the file: a scale d, then 16 bytes; the low nibbles are values 0-15, the high nibbles
// 16-31; value = (nibble - 8) * d.
struct Q4_0Block {
  uint8_t d[2];
  uint8_t q[kHalf];
};
static_assert(sizeof(Q4_0Block) == 18);

void Dequantize(const void* blocks, float* out, int64_t count) {
  const char* source = static_cast<const char*>(blocks);
  for (int64_t b = 0; b < count / kBlock; ++b) {
    Q4_0Block block;
    std::memcpy(&block, source + b * sizeof(block), sizeof(block));
    Float16 scale;
    std::memcpy(&scale, block.d, sizeof(scale));
    const float d = ToFloat(scale);
    float* y = out + b * kBlock;
    for (int i = 0; i < kHalf; ++i) {
      y[i] = static_cast<float>((block.q[i] & 15) - 8) * d;
      y[i + kHalf] = static_cast<float>((block.q[i] >> 4) - 8) * d;
    }
  }
}

// The value of largest magnitude, with its sign; the first of several. 0 if all are NaN.
float LargestMagnitude(const float* x) {
  float magnitude = 0;
  float largest = 0;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(x[i]) > magnitude) {
      magnitude = std::fabs(x[i]);
      largest = x[i];
    }
  }
  return largest;
}

// NaN becomes 0 (nibble 8): a conversion to an integer must not be undefined.
uint8_t RoundToNibble(float value) {
  if (std::isnan(value)) return 8;
  return static_cast<uint8_t>(std::clamp(value + 8.5f, 0.0f, 15.0f));
}

// The rule of ggml's quantize_row_q4_0_ref: the value of largest magnitude gets nibble 0, which is
// -8, so d = largest / -8; nibble = floor(x / d + 8.5), at most 15, with the unrounded d.
void Quantize(const float* in, void* blocks, int64_t count) {
  char* target = static_cast<char*>(blocks);
  for (int64_t b = 0; b < count / kBlock; ++b) {
    const float* x = in + b * kBlock;
    const float d = LargestMagnitude(x) / -8.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    Q4_0Block block;
    const Float16 scale = ToFloat16(d);
    std::memcpy(block.d, &scale, sizeof(scale));
    for (int i = 0; i < kHalf; ++i) {
      const uint8_t low = RoundToNibble(x[i] * inverse);
      const uint8_t high = RoundToNibble(x[i + kHalf] * inverse);
      block.q[i] = static_cast<uint8_t>(low | (high << 4));
    }
    std::memcpy(target + b * sizeof(block), &block, sizeof(block));
  }
}

}  // namespace

const WeightFormat kQ4_0Format = {.name = "q4_0",
                                  .ggml_type = 2,
                                  .safetensors = "",
                                  .block_elements = kBlock,
                                  .block_bytes = sizeof(Q4_0Block),
                                  .dequantize = Dequantize,
                                  .quantize = Quantize};

}  // namespace tprun
