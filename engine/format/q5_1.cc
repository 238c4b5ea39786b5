#include <algorithm>
#include <cmath>

#include "engine/format/five_bits.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 32;
constexpr int kBytes = 24;

// As in the file: scale d, minimum m, 20 bytes of 5-bit values; value = q * d + m.
void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  const float m = HalfAt(block + 2);
  for (int i = 0; i < kElements; ++i) {
    out[i] = static_cast<float>(FiveBits(block + 4, i)) * d + m;
  }
}

// The rule of ggml's quantize_row_q5_1_ref: d = (max - min) / 31, q = floor((x - min) / d + 0.5).
void Encode(const float* in, uint8_t* block) {
  const float low = *std::min_element(in, in + kElements);
  const float d = (*std::max_element(in, in + kElements) - low) / 31;
  const float inverse = d != 0 ? 1 / d : 0;
  PutHalf(d, block);
  PutHalf(low, block + 2);
  for (int i = 0; i < kElements; ++i) {
    const float q = (in[i] - low) * inverse + 0.5f;
    PutFiveBits(std::isnan(q) ? 0 : static_cast<int>(std::clamp(q, 0.0f, 31.0f)), i, block + 4);
  }
}

}  // namespace

const WeightFormat kQ5_1Format = {.name = "q5_1",
                                  .ggml_type = 7,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
