#include "engine/format/blocks.h"
#include "engine/format/k_scales.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 256;
constexpr int kBytes = 144;

// As in the file: d, dmin, 12 bytes of scales and minima for 8 groups of 32, 128 bytes of nibbles;
// value = d * scale * q - dmin * min. Groups 2k and 2k + 1 are the low and high nibbles of the
// same 32 bytes.
int ByteOf(int i) { return 16 + 32 * (i / 64) + i % 32; }
int ShiftOf(int i) { return 4 * (i / 32 % 2); }

void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  const float dmin = HalfAt(block + 2);
  for (int i = 0; i < kElements; ++i) {
    const ScaleAndMin group = KScaleOf(block + 4, i / 32);
    const float scale = d * static_cast<float>(group.scale);
    const float min = dmin * static_cast<float>(group.min);
    out[i] = scale * static_cast<float>((block[ByteOf(i)] >> ShiftOf(i)) & 15) - min;
  }
}

void Encode(const float* in, uint8_t* block) {
  EncodeWithKScales(in, 15, block, [block](int i, int q) {
    block[ByteOf(i)] = static_cast<uint8_t>(block[ByteOf(i)] | q << ShiftOf(i));
  });
}

}  // namespace

const WeightFormat kQ4_KFormat = {.name = "q4_k",
                                  .ggml_type = 12,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
