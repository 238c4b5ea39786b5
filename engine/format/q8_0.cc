#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kBlock = 32;

// As in the file: a scale d, then 32 signed bytes q; value = q * d.
struct Q8_0Block {
  uint8_t d[2];
  int8_t q[kBlock];
};
static_assert(sizeof(Q8_0Block) == 34);

void Dequantize(const void* blocks, float* out, int64_t count) {
  const char* source = static_cast<const char*>(blocks);
  for (int64_t b = 0; b < count / kBlock; ++b) {
    Q8_0Block block;
    std::memcpy(&block, source + b * sizeof(block), sizeof(block));
    Float16 scale;
    std::memcpy(&scale, block.d, sizeof(scale));
    const float d = ToFloat(scale);
    for (int i = 0; i < kBlock; ++i) out[b * kBlock + i] = static_cast<float>(block.q[i]) * d;
  }
}

// NaN becomes 0: a conversion to an integer must not be undefined whatever the input is.
int8_t RoundToInt8(float value) {
  if (std::isnan(value)) return 0;
  return static_cast<int8_t>(std::round(std::clamp(value, -127.0f, 127.0f)));
}

// The rule of ggml's quantize_row_q8_0_ref: d = max|x| / 127, q = round(x / d), halves away from
// zero, with the unrounded d.
void Quantize(const float* in, void* blocks, int64_t count) {
  char* target = static_cast<char*>(blocks);
  for (int64_t b = 0; b < count / kBlock; ++b) {
    const float* x = in + b * kBlock;
    float largest = 0;
    for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float d = largest / 127.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    Q8_0Block block;
    const Float16 scale = ToFloat16(d);
    std::memcpy(block.d, &scale, sizeof(scale));
    for (int i = 0; i < kBlock; ++i) block.q[i] = RoundToInt8(x[i] * inverse);
    std::memcpy(target + b * sizeof(block), &block, sizeof(block));
  }
}

}  // namespace

const WeightFormat kQ8_0Format = {.name = "q8_0",
                                  .ggml_type = 8,
                                  .safetensors = "",
                                  .block_elements = kBlock,
                                  .block_bytes = sizeof(Q8_0Block),
                                  .dequantize = Dequantize,
                                  .quantize = Quantize};

}  // namespace tprun
