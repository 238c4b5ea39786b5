#include <array>
#include <cmath>

#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 256;
constexpr int kGroup = 16;  // values that share a scale
constexpr int kGroups = kElements / kGroup;
constexpr int kBytes = 210;
constexpr int kScales = 192;

// As in the file: 128 bytes of the low four bits, 64 of the high two, 16 signed scales, d; value =
// d * scale * (q - 32).
int LowByteOf(int i) { return 64 * (i / 128) + i % 64; }
int LowShiftOf(int i) { return 4 * (i % 128 / 64); }
int HighByteOf(int i) { return 128 + 32 * (i / 128) + i % 32; }
int HighShiftOf(int i) { return 2 * (i % 128 / 32); }

void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block + 208);
  for (int i = 0; i < kElements; ++i) {
    const int low = (block[LowByteOf(i)] >> LowShiftOf(i)) & 15;
    const int high = (block[HighByteOf(i)] >> HighShiftOf(i)) & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[kScales + i / kGroup]));
    out[i] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

void Encode(const float* in, uint8_t* block) {
  std::array<float, kGroups> scales;
  float most = 0;
  for (int g = 0; g < kGroups; ++g) {
    scales[g] = FitScale(in + g * kGroup, kGroup, 32);
    if (std::fabs(scales[g]) > std::fabs(most)) most = scales[g];
  }
  PutHalf(most / -128, block + 208);
  const float d = HalfAt(block + 208);
  for (int g = 0; g < kGroups; ++g) {
    const int scale = d != 0 ? RoundTo(scales[g] / d, -128, 127) : 0;
    block[kScales + g] = static_cast<uint8_t>(static_cast<int8_t>(scale));
    const float step = d * static_cast<float>(scale);
    for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
      const int q = (step != 0 ? RoundTo(in[i] / step, -32, 31) : 0) + 32;
      block[LowByteOf(i)] = static_cast<uint8_t>(block[LowByteOf(i)] | (q & 15) << LowShiftOf(i));
      block[HighByteOf(i)] =
          static_cast<uint8_t>(block[HighByteOf(i)] | (q >> 4) << HighShiftOf(i));
    }
  }
}

}  // namespace

const WeightFormat kQ6_KFormat = {.name = "q6_k",
                                  .ggml_type = 14,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
