#include <array>
#include <cmath>

#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"
#include "engine/format/level_table.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 256;
constexpr int kGroup = 32;
constexpr int kGroups = kElements / kGroup;
constexpr int kBytes = 136;

// As in the file: d, the high two bits of 8 scales (u16), their low four bits (4 bytes), then 16
// bytes of nibbles per group; value = d * (scale - 32) * level[nibble].
int ScaleOf(const uint8_t* block, int group) {
  const int low = (block[4 + group / 2] >> 4 * (group % 2)) & 15;
  const int high = (block[2 + group / 4] >> 2 * (group % 4)) & 3;
  return (low | high << 4) - 32;
}

void PutScale(int scale, int group, uint8_t* block) {
  const int bits = scale + 32;
  uint8_t& low = block[4 + group / 2];
  low = static_cast<uint8_t>(low | (bits & 15) << 4 * (group % 2));
  uint8_t& high = block[2 + group / 4];
  high = static_cast<uint8_t>(high | (bits >> 4) << 2 * (group % 4));
}

void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int g = 0; g < kGroups; ++g) {
    const float scale = d * static_cast<float>(ScaleOf(block, g));
    for (int i = 0; i < kGroup; ++i) {
      out[g * kGroup + i] =
          scale * static_cast<float>(kIq4Levels[NibbleOf32(block + 8 + 16 * g, i)]);
    }
  }
}

void Encode(const float* in, uint8_t* block) {
  std::array<float, kGroups> scales;
  float most = 0;
  for (int g = 0; g < kGroups; ++g) {
    scales[g] = FitLevels(in + g * kGroup, kGroup);
    if (std::fabs(scales[g]) > std::fabs(most)) most = scales[g];
  }
  PutHalf(most / -32, block);
  const float d = HalfAt(block);
  for (int g = 0; g < kGroups; ++g) {
    const int scale = d != 0 ? RoundTo(scales[g] / d, -32, 31) : 0;
    PutScale(scale, g, block);
    const float step = d * static_cast<float>(scale);
    for (int i = 0; i < kGroup; ++i) {
      const float x = step != 0 ? in[g * kGroup + i] / step : 0;
      PutNibbleOf32(NearestLevel(kIq4Levels, x), i, block + 8 + 16 * g);
    }
  }
}

}  // namespace

const WeightFormat kIq4XsFormat = {.name = "iq4_xs",
                                   .ggml_type = 23,
                                   .safetensors = "",
                                   .block_elements = kElements,
                                   .block_bytes = kBytes,
                                   .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                   .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
