#include "engine/format/iq_grids.h"

namespace tprun {
namespace {

// value = scale * (-1, 0 or 1, an eighth more or less), eight values of one entry.
void PutEight(float scale, uint32_t entry, bool less, float* out) {
  const float shift = less ? -0.125f : 0.125f;
  for (int i = 0; i < 8; ++i) {
    out[i] = scale * (static_cast<float>(static_cast<int>((entry >> 2 * i) & 3) - 1) + shift);
  }
}

// d, 32 bytes of entries, then for each 32 values four times three more bits of the entries, three
// bits of scale and the sign of the shift.
void DecodeS(const uint8_t* block, float* out) {
  const float d = HalfAt(block);
  for (int k = 0; k < 32; ++k) {
    const uint32_t word = U16At(block + 34 + 2 * (k / 4));
    const float scale = d * static_cast<float>(2 * ((word >> 12) & 7) + 1);
    const uint32_t high = (word >> 3 * (k % 4)) & 7;
    PutEight(scale, kIq1Grid[block[2 + k] | high << 8], (word & 0x8000) != 0, out + 8 * k);
  }
}

// 32 bytes of entries, a nibble for each (three more bits, the sign of the shift), then four words
// of four scales of three bits for 16 values each; their highest four bits together are d.
void DecodeM(const uint8_t* block, float* out) {
  uint32_t half = 0;
  for (int i = 0; i < 4; ++i) half |= (U16At(block + 48 + 2 * i) >> 12) << 4 * i;
  const float d = ToFloat(Float16{static_cast<uint16_t>(half)});
  for (int k = 0; k < 32; ++k) {
    const uint32_t nibble = (block[32 + k / 2] >> 4 * (k % 2)) & 15;
    const uint32_t bits = (U16At(block + 48 + 2 * (k / 8)) >> 3 * (k / 2 % 4)) & 7;
    PutEight(d * static_cast<float>(2 * bits + 1), kIq1Grid[block[k] | (nibble & 7) << 8],
             (nibble & 8) != 0, out + 8 * k);
  }
}

}  // namespace

const WeightFormat kIq1SFormat = DecodeOnly<DecodeS, 50>("iq1_s", 19);
const WeightFormat kIq1MFormat = DecodeOnly<DecodeM, 56>("iq1_m", 29);

}  // namespace tprun
