#include <array>
#include <cmath>

#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr int kElements = 256;
constexpr int kGroup = 16;  // values that share a scale of 6 bits
constexpr int kGroups = kElements / kGroup;
constexpr int kBytes = 110;
constexpr int kLowBits = 32;
constexpr int kScales = 96;

// As in the file: 32 bytes of third bits, 64 of the two low bits, 12 of 6-bit scales (less 32), d;
// value = d * scale * (q - 4).
int ByteOf(int i) { return kLowBits + 32 * (i / 128) + i % 32; }
int ShiftOf(int i) { return 2 * (i % 128 / 32); }

int ScaleOf(const uint8_t* scales, int group) {
  const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
  const int high = (scales[8 + group % 4] >> 2 * (group / 4)) & 3;
  return (low | high << 4) - 32;
}

void PutScale(int scale, int group, uint8_t* scales) {
  const int bits = scale + 32;
  uint8_t& low = scales[group % 8];
  low = static_cast<uint8_t>(low | (bits & 15) << (group < 8 ? 0 : 4));
  uint8_t& high = scales[8 + group % 4];
  high = static_cast<uint8_t>(high | (bits >> 4) << 2 * (group / 4));
}

void Decode(const uint8_t* block, float* out) {
  const float d = HalfAt(block + 108);
  for (int i = 0; i < kElements; ++i) {
    const int low = (block[ByteOf(i)] >> ShiftOf(i)) & 3;
    const int high = (block[i % 32] >> i / 32) & 1;
    const float scale = d * static_cast<float>(ScaleOf(block + kScales, i / kGroup));
    out[i] = scale * static_cast<float>(low - (high != 0 ? 0 : 4));
  }
}

void Encode(const float* in, uint8_t* block) {
  std::array<float, kGroups> scales;
  float most = 0;
  for (int g = 0; g < kGroups; ++g) {
    scales[g] = FitScale(in + g * kGroup, kGroup, 4);
    if (std::fabs(scales[g]) > std::fabs(most)) most = scales[g];
  }
  PutHalf(most / -32, block + 108);
  const float d = HalfAt(block + 108);
  for (int g = 0; g < kGroups; ++g) {
    const int scale = d != 0 ? RoundTo(scales[g] / d, -32, 31) : 0;
    PutScale(scale, g, block + kScales);
    const float step = d * static_cast<float>(scale);
    for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
      const int q = (step != 0 ? RoundTo(in[i] / step, -4, 3) : 0) + 4;
      block[ByteOf(i)] = static_cast<uint8_t>(block[ByteOf(i)] | (q & 3) << ShiftOf(i));
      block[i % 32] = static_cast<uint8_t>(block[i % 32] | (q >> 2) << i / 32);
    }
  }
}

}  // namespace

const WeightFormat kQ3_KFormat = {.name = "q3_k",
                                  .ggml_type = 11,
                                  .safetensors = "",
                                  .block_elements = kElements,
                                  .block_bytes = kBytes,
                                  .dequantize = DecodeAll<Decode, kElements, kBytes>,
                                  .quantize = EncodeAll<Encode, kElements, kBytes>};

}  // namespace tprun
