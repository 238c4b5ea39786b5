#include "engine/format/blocks.h"
#include "engine/format/k_scales.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 256;
constexpr int kBytes = 176;
constexpr int kHighBits = 16;

// As q4_k, with 32 bytes of fifth bits between the scales and the nibbles: of value i, bit i / 32
// of byte i % 32.
int ByteOf(int i) { return 48 + 32 * (i / 64) + i % 32; }
int ShiftOf(int i) { return 4 * (i / 32 % 2); }

void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  const float dmin = HalfAt(block + 2);
  for (int i = 0; i < kElements; ++i) {
    const ScaleAndMin group = KScaleOf(block + 4, i / 32);
    const float scale = d * static_cast<float>(group.scale);
    const float min = dmin * static_cast<float>(group.min);
    const int high = (block[kHighBits + i % 32] >> i / 32) & 1;
    const int q = ((block[ByteOf(i)] >> ShiftOf(i)) & 15) | high << 4;
    out[i] = scale * static_cast<float>(q) - min;
  }
}

void Encode(const float* in, uint8_t* block) {
  EncodeWithKScales(in, 31, block, [block](int i, int q) {
    uint8_t& high = block[kHighBits + i % 32];
    high = static_cast<uint8_t>(high | (q >> 4) << i / 32);
    block[ByteOf(i)] = static_cast<uint8_t>(block[ByteOf(i)] | (q & 15) << ShiftOf(i));
  });
}

}  // namespace

const WeightFormat kQ5_KFormat = {.name = "q5_k",
                                  .ggml_type = 13,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
