#include <array>
#include <cmath>
#include <cstring>

#include "engine/format/bitsandbytes_levels.h"
#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"
#include "engine/format/level_table.h"
#include "engine/format/weight_format.h"

// bitsandbytes' formats (bitsandbytes-foundation/bitsandbytes 0.50: functional.py) with what they
// keep apart, the absolute maximum of a block or row, in front of each 64 values.

namespace tprun {
namespace {

constexpr int kElements = 64;

float FloatAt(const uint8_t* bytes) {
  float value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float LargestOf(const float* in) {
  float largest = 0;
  for (int i = 0; i < kElements; ++i) {
    if (std::isfinite(in[i])) largest = std::max(largest, std::fabs(in[i]));
  }
  return largest;
}

// The f32 absmax, then 32 bytes, of which the first value of each two has the high nibble;
// value = level[nibble] * absmax.
template <const std::array<float, 16>& kLevels>
struct FourBits {
  static constexpr int kBytes = 4 + kElements / 2;

  static void Decode(const uint8_t* block, float* out) {
    const float absmax = FloatAt(block);
    for (int i = 0; i < kElements; i += 2) {
      out[i] = kLevels[block[4 + i / 2] >> 4] * absmax;
      out[i + 1] = kLevels[block[4 + i / 2] & 15] * absmax;
    }
  }

  static void Encode(const float* in, uint8_t* block) {
    const float absmax = LargestOf(in);
    std::memcpy(block, &absmax, sizeof(absmax));
    const float inverse = absmax > 0 ? 1 / absmax : 0;
    for (int i = 0; i < kElements; ++i) {
      const float x = std::isfinite(in[i]) ? in[i] * inverse : 0;
      const int nibble = NearestLevel(kLevels, x);
      block[4 + i / 2] = static_cast<uint8_t>(block[4 + i / 2] | nibble << (i % 2 == 0 ? 4 : 0));
    }
  }

  static constexpr WeightFormat Format(absl::string_view name) {
    return {name,
            -1,
            "",
            kElements,
            kBytes,
            DecodeAll<Decode, kElements, kBytes>,
            EncodeAll<Encode, kElements, kBytes>};
  }
};

// LLM.int8 (arXiv 2208.07339): the f32 absmax of the row, then signed bytes;
// value = q * absmax / 127, in two products as int8_vectorwise_dequant has them.
constexpr int kInt8Bytes = 4 + kElements;
constexpr float kInverse127 = 7.874015718698502e-3f;

void DecodeInt8(const uint8_t* block, float* out) {
  const float absmax = FloatAt(block);
  for (int i = 0; i < kElements; ++i) {
    out[i] = static_cast<float>(static_cast<int8_t>(block[4 + i])) * absmax * kInverse127;
  }
}

void EncodeInt8(const float* in, uint8_t* block) {
  const float absmax = LargestOf(in);
  std::memcpy(block, &absmax, sizeof(absmax));
  const float scale = absmax > 0 ? 127 / absmax : 0;
  for (int i = 0; i < kElements; ++i) {
    const float x = std::isfinite(in[i]) ? in[i] * scale : 0;
    block[4 + i] = static_cast<uint8_t>(RoundTo(x, -127, 127));
  }
}

}  // namespace

const WeightFormat kNf4Format = FourBits<kNf4Levels>::Format("nf4");
const WeightFormat kFp4Format = FourBits<kFp4Levels>::Format("fp4");
const WeightFormat kBnbInt8Format = {"bnb_int8",
                                     -1,
                                     "",
                                     kElements,
                                     kInt8Bytes,
                                     DecodeAll<DecodeInt8, kElements, kInt8Bytes>,
                                     EncodeAll<EncodeInt8, kElements, kInt8Bytes>};

}  // namespace tprun
