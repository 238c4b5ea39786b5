#include <algorithm>
#include <cmath>

#include "engine/format/five_bits.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 32;
constexpr int kBytes = 22;

// As in the file: scale d, 20 bytes of 5-bit values; value = (q - 16) * d.
void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int i = 0; i < kElements; ++i) {
    out[i] = static_cast<float>(FiveBits(block + 2, i) - 16) * d;
  }
}

float LargestMagnitude(const float* x) {
  float largest = 0;
  for (int i = 0; i < kElements; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  return largest;
}

// The rule of ggml's quantize_row_q5_0_ref: the value of largest magnitude gets q = 0, which is
// -16.
void Encode(const float* in, uint8_t* block) {
  const float d = LargestMagnitude(in) / -16;
  const float inverse = d != 0 ? 1 / d : 0;
  PutHalf(d, block);
  for (int i = 0; i < kElements; ++i) {
    const float q = in[i] * inverse + 16.5f;
    PutFiveBits(std::isnan(q) ? 16 : static_cast<int>(std::clamp(q, 0.0f, 31.0f)), i, block + 2);
  }
}

}  // namespace

const WeightFormat kQ5_0Format = {.name = "q5_0",
                                  .ggml_type = 6,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
