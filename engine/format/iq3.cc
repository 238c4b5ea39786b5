#include "engine/format/iq_grids.h"

namespace tprun {
namespace {

constexpr float kXxsLevels[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr float kSLevels[8] = {1, 3, 5, 7, 9, 11, 13, 15};

// Four values of one entry of the code book, of which the signs begin at bit `first`.
void PutFour(float scale, const float* levels, uint32_t entry, uint32_t signs, int first,
             float* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = WithSign(scale * levels[(entry >> 3 * i) & 7], signs, first + i);
  }
}

// d, 64 bytes of entries, then for each 32 values four times seven signs and four bits of scale.
void DecodeXxs(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int k = 0; k < 64; ++k) {
    const uint32_t word = U32At(block + 66 + 4 * (k / 8));
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    PutFour(scale, kXxsLevels, kIq3XxsGrid[block[2 + k]], EvenSigns(word >> 7 * (k / 2 % 4)),
            4 * (k % 2), out + 4 * k);
  }
}

// d, 64 bytes of entries, their ninth bits, 32 bytes of signs, four bits of scale for each 32
// values.
void DecodeS(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int k = 0; k < 64; ++k) {
    const uint32_t high = (block[66 + k / 8] >> (k % 8)) & 1;
    const int bits = (block[106 + k / 16] >> 4 * (k / 8 % 2)) & 15;
    const float scale = d * static_cast<float>(1 + 2 * bits);
    PutFour(scale, kSLevels, kIq3SGrid[block[2 + k] | high << 8], block[74 + k / 2], 4 * (k % 2),
            out + 4 * k);
  }
}

}  // namespace

const WeightFormat kIq3XxsFormat = DecodeOnly<DecodeXxs, 98>("iq3_xxs", 18);
const WeightFormat kIq3SFormat = DecodeOnly<DecodeS, 110>("iq3_s", 21);

}  // namespace tprun
