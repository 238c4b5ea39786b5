#include "engine/format/blocks.h"
#include "engine/format/level_table.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 32;
constexpr int kBytes = 18;

// As in the file: scale d, 16 bytes of nibbles; value = d * level[nibble].
void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int i = 0; i < kElements; ++i) {
    out[i] = d * static_cast<float>(kIq4Levels[NibbleOf32(block + 2, i)]);
  }
}

void Encode(const float* in, uint8_t* block) {
  PutHalf(FitLevels(in, kElements), block);
  const float d = HalfAt(block);
  for (int i = 0; i < kElements; ++i) {
    PutNibbleOf32(NearestLevel(kIq4Levels, d != 0 ? in[i] / d : 0), i, block + 2);
  }
}

}  // namespace

const WeightFormat kIq4NlFormat = {.name = "iq4_nl",
                                   .ggml_type = 20,
                                   .safetensors = "",
                                   .block_elements = kElements,
                                   .block_bytes = kBytes,
                                   .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                   .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
