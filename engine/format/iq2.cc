#include "engine/format/iq_grids.h"

namespace tprun {
namespace {

constexpr float kLevels[4] = {8, 25, 43, 0};

// value = scale * level * sign, eight values of one entry of the code book.
void PutEight(float scale, uint32_t entry, uint32_t signs, float* out) {
  for (int i = 0; i < 8; ++i) {
    out[i] = WithSign(scale * kLevels[(entry >> 2 * i) & 3], signs, i);
  }
}

// An odd number of eighths of d.
float ScaleOf(float d, uint32_t bits) { return d * (0.5f + static_cast<float>(bits)) * 0.25f; }

// d, then for each 32 values four entries of a byte, four times seven signs, four bits of scale.
void DecodeXxs(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int g = 0; g < 8; ++g) {
    const uint8_t* entries = block + 2 + 8 * g;
    const uint32_t signs = U32At(entries + 4);
    const float scale = ScaleOf(d, signs >> 28);
    for (int k = 0; k < 4; ++k) {
      PutEight(scale, kIq2XxsGrid[entries[k]], EvenSigns(signs >> 7 * k), out + 32 * g + 8 * k);
    }
  }
}

// d, 32 words of nine bits of entry and seven of signs, four bits of scale for each 16 values.
void DecodeXs(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int k = 0; k < 32; ++k) {
    const uint32_t word = U16At(block + 2 + 2 * k);
    const uint32_t bits = (block[66 + k / 4] >> 4 * (k / 2 % 2)) & 15;
    PutEight(ScaleOf(d, bits), kIq2XsGrid[word & 511], EvenSigns(word >> 9), out + 8 * k);
  }
}

// d, 32 bytes of entries, 32 of signs, two more bits of each entry, scales as above.
void DecodeS(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int k = 0; k < 32; ++k) {
    const uint32_t high = (block[66 + k / 4] >> 2 * (k % 4)) & 3;
    const uint32_t bits = (block[74 + k / 4] >> 4 * (k / 2 % 2)) & 15;
    PutEight(ScaleOf(d, bits), kIq2SGrid[block[2 + k] | high << 8], block[34 + k], out + 8 * k);
  }
}

}  // namespace

const WeightFormat kIq2XxsFormat = DecodeOnly<DecodeXxs, 66>("iq2_xxs", 16);
const WeightFormat kIq2XsFormat = DecodeOnly<DecodeXs, 74>("iq2_xs", 17);
const WeightFormat kIq2SFormat = DecodeOnly<DecodeS, 82>("iq2_s", 22);

}  // namespace tprun
