#include <algorithm>
#include <array>

#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 256;
constexpr int kGroup = 16;  // values that share a scale and a minimum of 4 bits
constexpr int kGroups = kElements / kGroup;
constexpr int kBytes = 84;

// As in the file: 16 bytes with a scale (low nibble) and a minimum (high nibble) per group, 64
// bytes of 2-bit values, d, dmin; value = d * scale * q - dmin * min. Value i has bits
// 2 * (i % 128 / 32) of byte 32 * (i / 128) + i % 32.
int ByteOf(int i) { return 16 + 32 * (i / 128) + i % 32; }
int ShiftOf(int i) { return 2 * (i % 128 / 32); }

void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block + 80);
  const float dmin = HalfAt(block + 82);
  for (int i = 0; i < kElements; ++i) {
    const int scales = block[i / kGroup];
    const int q = (block[ByteOf(i)] >> ShiftOf(i)) & 3;
    const float scale = d * static_cast<float>(scales & 15);
    const float min = dmin * static_cast<float>(scales >> 4);
    out[i] = scale * static_cast<float>(q) - min;
  }
}

void Encode(const float* in, uint8_t* block) {
  std::array<OffsetFit, kGroups> fits;
  OffsetFit most;
  for (int g = 0; g < kGroups; ++g) {
    fits[g] = FitScaleAndMin(in + g * kGroup, kGroup, 3);
    most.scale = std::max(most.scale, fits[g].scale);
    most.min = std::max(most.min, fits[g].min);
  }
  PutHalf(most.scale / 15, block + 80);
  PutHalf(most.min / 15, block + 82);
  const float d = HalfAt(block + 80);
  const float dmin = HalfAt(block + 82);
  for (int g = 0; g < kGroups; ++g) {
    const int scale = d > 0 ? RoundTo(fits[g].scale / d, 0, 15) : 0;
    const int min = dmin > 0 ? RoundTo(fits[g].min / dmin, 0, 15) : 0;
    block[g] = static_cast<uint8_t>(scale | min << 4);
    const float step = d * static_cast<float>(scale);
    for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
      const float x = in[i] + dmin * static_cast<float>(min);
      const int q = step > 0 ? RoundTo(x / step, 0, 3) : 0;
      block[ByteOf(i)] = static_cast<uint8_t>(block[ByteOf(i)] | q << ShiftOf(i));
    }
  }
}

}  // namespace

const WeightFormat kQ2_KFormat = {.name = "q2_k",
                                  .ggml_type = 10,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
