// ggml's formats of code books and of -1, 0 and 1.

#include "engine/format/iq_grid_values.h"
#include "engine/kernels/cuda/block_formats.cuh"
#include "engine/kernels/cuda/make_format_ops.cuh"

namespace tprun::cuda {
namespace {

// A code book in device memory, 4 KiB at most: it stays in the first-level cache.
template <int kCount>
struct Grid16 {
  uint16_t entries[kCount];
};
template <int kCount>
constexpr Grid16<kCount> Copied(const uint16_t (&values)[kCount]) {
  Grid16<kCount> grid = {};
  for (int i = 0; i < kCount; ++i) grid.entries[i] = values[i];
  return grid;
}
__device__ const Grid16<2048> iq1_grid = Copied(kIq1Grid);
__device__ const Grid16<256> iq2_xxs_grid = Copied(kIq2XxsGrid);
__device__ const Grid16<512> iq2_xs_grid = Copied(kIq2XsGrid);
__device__ const Grid16<1024> iq2_s_grid = Copied(kIq2SGrid);
__device__ const Grid16<256> iq3_xxs_grid = Copied(kIq3XxsGrid);
__device__ const Grid16<512> iq3_s_grid = Copied(kIq3SGrid);

__device__ __forceinline__ uint32_t U16At(const uint8_t* bytes) {
  return bytes[0] | uint32_t{bytes[1]} << 8;
}
__device__ __forceinline__ uint32_t U32At(const uint8_t* bytes) {
  return U16At(bytes) | U16At(bytes + 2) << 16;
}

// Seven signs are stored, the eighth makes their number even.
__device__ __forceinline__ uint32_t EvenSigns(uint32_t seven_bits) {
  const uint32_t bits = seven_bits & 127;
  return bits | static_cast<uint32_t>(__popc(bits) & 1) << 7;
}

__device__ __forceinline__ float WithSign(float value, uint32_t signs, int i) {
  return ((signs >> i) & 1) != 0 ? -value : value;
}

// -1, 0 or 1, an eighth more or less.
__device__ __forceinline__ float ShiftedTrit(float scale, uint32_t entry, bool less, int i) {
  const float trit = static_cast<float>(static_cast<int>((entry >> 2 * i) & 3) - 1);
  return scale * (trit + (less ? -0.125f : 0.125f));
}

struct Iq1S {
  static constexpr int kElements = 256, kBytes = 50;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int k = i / 8;
    const uint32_t word = U16At(block + 34 + 2 * (k / 4));
    const float scale = HalfAt(block) * static_cast<float>(2 * ((word >> 12) & 7) + 1);
    const uint32_t high = (word >> 3 * (k % 4)) & 7;
    return ShiftedTrit(scale, iq1_grid.entries[block[2 + k] | high << 8], (word & 0x8000) != 0,
                       i % 8);
  }
};

struct Iq1M {
  static constexpr int kElements = 256, kBytes = 56;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int k = i / 8;
    uint32_t half = 0;
    for (int j = 0; j < 4; ++j) half |= (U16At(block + 48 + 2 * j) >> 12) << 4 * j;
    const float d = __half2float(__ushort_as_half(static_cast<unsigned short>(half)));
    const uint32_t nibble = (block[32 + k / 2] >> 4 * (k % 2)) & 15;
    const uint32_t bits = (U16At(block + 48 + 2 * (k / 8)) >> 3 * (k / 2 % 4)) & 7;
    return ShiftedTrit(d * static_cast<float>(2 * bits + 1),
                       iq1_grid.entries[block[k] | (nibble & 7) << 8], (nibble & 8) != 0, i % 8);
  }
};

// scale * level * sign, of the entry's levels 8, 25, 43.
__device__ __forceinline__ float Iq2Value(float d, uint32_t scale_bits, uint32_t entry,
                                          uint32_t signs, int i) {
  const float scale = d * (0.5f + static_cast<float>(scale_bits)) * 0.25f;
  const uint32_t level = (0x002b1908u >> 8 * ((entry >> 2 * i) & 3)) & 255;
  return WithSign(scale * static_cast<float>(level), signs, i);
}

struct Iq2Xxs {
  static constexpr int kElements = 256, kBytes = 66;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const uint8_t* entries = block + 2 + 8 * (i / 32);
    const int k = i % 32 / 8;
    const uint32_t signs = U32At(entries + 4);
    return Iq2Value(HalfAt(block), signs >> 28, iq2_xxs_grid.entries[entries[k]],
                    EvenSigns(signs >> 7 * k), i % 8);
  }
};

struct Iq2Xs {
  static constexpr int kElements = 256, kBytes = 74;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int k = i / 8;
    const uint32_t word = U16At(block + 2 + 2 * k);
    const uint32_t bits = (block[66 + k / 4] >> 4 * (k / 2 % 2)) & 15;
    return Iq2Value(HalfAt(block), bits, iq2_xs_grid.entries[word & 511], EvenSigns(word >> 9),
                    i % 8);
  }
};

struct Iq2S {
  static constexpr int kElements = 256, kBytes = 82;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int k = i / 8;
    const uint32_t high = (block[66 + k / 4] >> 2 * (k % 4)) & 3;
    const uint32_t bits = (block[74 + k / 4] >> 4 * (k / 2 % 2)) & 15;
    return Iq2Value(HalfAt(block), bits, iq2_s_grid.entries[block[2 + k] | high << 8],
                    block[34 + k], i % 8);
  }
};

struct Iq3Xxs {
  static constexpr int kElements = 256, kBytes = 98;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int k = i / 4;
    const uint32_t word = U32At(block + 66 + 4 * (k / 8));
    const float scale = HalfAt(block) * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    const uint32_t level = (iq3_xxs_grid.entries[block[2 + k]] >> 3 * (i % 4)) & 7;
    // 4, 12, 20, 28, 36, 44, 52, 62.
    const float value = static_cast<float>(level < 7 ? 4 + 8 * level : 62);
    return WithSign(scale * value, EvenSigns(word >> 7 * (k / 2 % 4)), i % 8);
  }
};

struct Iq3S {
  static constexpr int kElements = 256, kBytes = 110;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int k = i / 4;
    const uint32_t high = (block[66 + k / 8] >> (k % 8)) & 1;
    const int bits = (block[106 + k / 16] >> 4 * (k / 8 % 2)) & 15;
    const float scale = HalfAt(block) * static_cast<float>(1 + 2 * bits);
    const uint32_t entry = iq3_s_grid.entries[block[2 + k] | high << 8];
    const float value = static_cast<float>(1 + 2 * ((entry >> 3 * (i % 4)) & 7));
    return WithSign(scale * value, block[74 + k / 2], i % 8);
  }
};

struct Tq1 {
  static constexpr int kElements = 256, kBytes = 54;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    // Byte m of a run of 32, 16 or 4 gives the values m, m + run, ...
    const int byte = i < 160 ? i % 32 : i < 240 ? 32 + (i - 160) % 16 : 48 + (i - 240) % 4;
    const int digit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
    int power = 1;
    for (int n = 0; n < digit; ++n) power *= 3;
    const int fraction = block[byte] * power & 255;
    return HalfAt(block + 52) * static_cast<float>((fraction * 3 >> 8) - 1);
  }
};

struct Tq2 {
  static constexpr int kElements = 256, kBytes = 66;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int q = (block[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32)) & 3;
    return HalfAt(block + 64) * static_cast<float>(q - 1);
  }
};

}  // namespace

const FormatOps* CodeBookOps(Format format) {
  switch (format) {
    case Format::kIq1S:
      return OpsInFileOrder<BlockReader<Iq1S>>();
    case Format::kIq1M:
      return OpsInFileOrder<BlockReader<Iq1M>>();
    case Format::kIq2Xxs:
      return OpsInFileOrder<BlockReader<Iq2Xxs>>();
    case Format::kIq2Xs:
      return OpsInFileOrder<BlockReader<Iq2Xs>>();
    case Format::kIq2S:
      return OpsInFileOrder<BlockReader<Iq2S>>();
    case Format::kIq3Xxs:
      return OpsInFileOrder<BlockReader<Iq3Xxs>>();
    case Format::kIq3S:
      return OpsInFileOrder<BlockReader<Iq3S>>();
    case Format::kTq1:
      return OpsInFileOrder<BlockReader<Tq1>>();
    case Format::kTq2:
      return OpsInFileOrder<BlockReader<Tq2>>();
    default:
      return nullptr;
  }
}

}  // namespace tprun::cuda
