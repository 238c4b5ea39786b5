#include <cmath>
#include <cstring>

#include "engine/format/blocks.h"
#include "engine/format/fp8_bits.h"
#include "engine/format/weight_format.h"

// FP8 weights as checkpoints of compressed-tensors and DeepSeek have them, with the scale of the
// tensor, the channel or the block of 128 x 128 in front of each piece of a row: any of the three
// is read into it without a change of value.

namespace tprun {
namespace {

template <int kElements>
struct Fp8 {
  static constexpr int kBytes = 4 + kElements;

  // An f32 scale, then a byte per value; value = scale * e4m3.
  static void Decode(const uint8_t* block, float* out) {
    float scale;
    std::memcpy(&scale, block, sizeof(scale));
    for (int i = 0; i < kElements; ++i) out[i] = FromE4M3(block[4 + i]) * scale;
  }

  static void Encode(const float* in, uint8_t* block) {
    float largest = 0;
    for (int i = 0; i < kElements; ++i) {
      if (std::isfinite(in[i])) largest = std::max(largest, std::fabs(in[i]));
    }
    const float scale = largest > 0 ? largest / kLargestE4M3 : 1;
    std::memcpy(block, &scale, sizeof(scale));
    // 0 for what is not finite: one such value must not take the others with it.
    for (int i = 0; i < kElements; ++i) {
      block[4 + i] = std::isfinite(in[i]) ? ToE4M3(in[i] / scale) : 0;
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

void DecodeE4M3(const uint8_t* byte, float* out) { *out = FromE4M3(*byte); }
void EncodeE4M3(const float* in, uint8_t* byte) { *byte = ToE4M3(*in); }

}  // namespace

const WeightFormat kFp8Format = Fp8<128>::Format("fp8");
const WeightFormat kFp8B32Format = Fp8<32>::Format("fp8_b32");
const WeightFormat kE4M3Format = {
    "fp8_e4m3", -1, "", 1, 1, DecodeAll<DecodeE4M3, 1, 1>, EncodeAll<EncodeE4M3, 1, 1>};

}  // namespace tprun
