#include <algorithm>
#include <cmath>

#include "engine/format/blocks.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 32;
constexpr int kBytes = 20;

// As in the file: scale d, minimum m, 16 bytes of nibbles; value = nibble * d + m.
void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  const float m = HalfAt(block + 2);
  for (int i = 0; i < kElements; ++i) {
    out[i] = static_cast<float>(NibbleOf32(block + 4, i)) * d + m;
  }
}

// The rule of ggml's quantize_row_q4_1_ref: d = (max - min) / 15, nibble = floor((x - min) / d +
// 0.5).
void Encode(const float* in, uint8_t* block) {
  const float low = *std::min_element(in, in + kElements);
  const float d = (*std::max_element(in, in + kElements) - low) / 15;
  const float inverse = d != 0 ? 1 / d : 0;
  PutHalf(d, block);
  PutHalf(low, block + 2);
  for (int i = 0; i < kElements; ++i) {
    const float q = (in[i] - low) * inverse + 0.5f;
    PutNibbleOf32(std::isnan(q) ? 0 : static_cast<int>(std::clamp(q, 0.0f, 15.0f)), i, block + 4);
  }
}

}  // namespace

const WeightFormat kQ4_1Format = {.name = "q4_1",
                                  .ggml_type = 3,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
