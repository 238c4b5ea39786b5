#include "engine/format/iq_grids.h"

// ggml's formats of -1, 0 and 1 (BitNet b1.58, arXiv 2402.17764).

namespace tprun {
namespace {

// Digit n of a byte that holds five in base three, as a fraction of 256.
int Trit(uint8_t byte, int n) {
  static constexpr int kPowers[5] = {1, 3, 9, 27, 81};
  const int digit = byte * kPowers[n] & 255;
  return (digit * 3 >> 8) - 1;
}

// 48 bytes of five digits and 4 of four, then d: byte m of a run of 32, 16 or 4 gives the values m,
// m + run, m + 2 run...
void DecodeTq1(const uint8_t* block, float* out) {
  const float d = HalfAt(block + 52);
  const auto put = [&](const uint8_t* bytes, int run, int digits) {
    for (int n = 0; n < digits; ++n) {
      for (int m = 0; m < run; ++m) *out++ = d * static_cast<float>(Trit(bytes[m], n));
    }
  };
  put(block, 32, 5);
  put(block + 32, 16, 5);
  put(block + 48, 4, 4);
}

// 64 bytes of four times two bits, then d.
void DecodeTq2(const uint8_t* block, float* out) {
  const float d = HalfAt(block + 64);
  for (int i = 0; i < kIqElements; ++i) {
    const int q = (block[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32)) & 3;
    out[i] = d * static_cast<float>(q - 1);
  }
}

}  // namespace

const WeightFormat kTq1Format = DecodeOnly<DecodeTq1, 54>("tq1_0", 34);
const WeightFormat kTq2Format = DecodeOnly<DecodeTq2, 66>("tq2_0", 35);

}  // namespace tprun
