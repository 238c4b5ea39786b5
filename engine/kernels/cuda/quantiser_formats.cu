// Formats of quantisers' checkpoints: FP8, bitsandbytes, integers in groups.

#include "engine/format/bitsandbytes_levels.h"
#include "engine/kernels/cuda/block_formats.cuh"
#include "engine/kernels/cuda/make_format_ops.cuh"
#include "engine/kernels/cuda/quantiser_formats.cuh"

namespace tprun::cuda {
namespace {

struct Levels {
  float values[16];
};
constexpr Levels Copied(const std::array<float, 16>& from) {
  Levels levels = {};
  for (int i = 0; i < 16; ++i) levels.values[i] = from[i];
  return levels;
}
__device__ const Levels nf4_levels = Copied(kNf4Levels);
__device__ const Levels fp4_levels = Copied(kFp4Levels);

// The first value of each two has the high nibble.
template <const Levels& kLevels>
struct FourBits {
  static constexpr int kElements = 64, kBytes = 36;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const int nibble = (block[4 + i / 2] >> (i % 2 == 0 ? 4 : 0)) & 15;
    return kLevels.values[nibble] * FloatAt(block);
  }
};

struct BnbInt8 {
  static constexpr int kElements = 64, kBytes = 68;
  __device__ static __forceinline__ float Value(const uint8_t* block, int i) {
    const auto quant = static_cast<float>(static_cast<int8_t>(block[4 + i]));
    return quant * FloatAt(block) * 7.874015718698502e-3f;  // 1 / 127
  }
};

}  // namespace

const FormatOps* QuantiserOps(Format format) {
  switch (format) {
    case Format::kFp8B32:
      return OpsInFileOrder<BlockReader<Fp8InFile<32>>>();
    case Format::kNf4:
      return OpsInFileOrder<BlockReader<FourBits<nf4_levels>>>();
    case Format::kFp4:
      return OpsInFileOrder<BlockReader<FourBits<fp4_levels>>>();
    case Format::kBnbInt8:
      return OpsInFileOrder<BlockReader<BnbInt8>>();
    case Format::kInt4G32:
      return OpsInFileOrder<BlockReader<IntGroup<4, 32, F16Scale>>>();
    case Format::kInt4G64:
      return OpsInFileOrder<BlockReader<IntGroup<4, 64, F16Scale>>>();
    case Format::kInt4G32Bf16:
      return OpsInFileOrder<BlockReader<IntGroup<4, 32, Bf16Scale>>>();
    case Format::kInt4G64Bf16:
      return OpsInFileOrder<BlockReader<IntGroup<4, 64, Bf16Scale>>>();
    case Format::kInt8G32:
      return OpsInFileOrder<BlockReader<IntGroup<8, 32, F16Scale>>>();
    case Format::kInt8G128:
      return OpsInFileOrder<BlockReader<IntGroup<8, 128, F16Scale>>>();
    case Format::kInt8G32Bf16:
      return OpsInFileOrder<BlockReader<IntGroup<8, 32, Bf16Scale>>>();
    case Format::kInt8G128Bf16:
      return OpsInFileOrder<BlockReader<IntGroup<8, 128, Bf16Scale>>>();
    case Format::kInt8G32F32:
      return OpsInFileOrder<BlockReader<IntGroup<8, 32, F32Scale>>>();
    case Format::kInt8G128F32:
      return OpsInFileOrder<BlockReader<IntGroup<8, 128, F32Scale>>>();
    default:
      return nullptr;
  }
}

}  // namespace tprun::cuda
