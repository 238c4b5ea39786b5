#include "engine/format/int_groups.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/format/blocks.h"
#include "engine/format/fit_scale.h"

namespace tprun {
namespace {

inline float FloatOf(Float16 value) { return ToFloat(value); }
inline float FloatOf(BFloat16 value) { return ToFloat(value); }
inline float FloatOf(float value) { return value; }
inline void Narrow(float value, Float16& out) { out = ToFloat16(value); }
inline void Narrow(float value, BFloat16& out) { out = ToBFloat16(value); }
inline void Narrow(float value, float& out) { out = value; }

template <int kBits, int kElements, class Scale>
struct IntGroup {
  static constexpr int kQuants = sizeof(Scale) + 1;
  static constexpr int kBytes = kQuants + kElements * kBits / 8;
  static constexpr int kMost = (1 << kBits) - 1;

  static float ScaleOf(const uint8_t* block) {
    Scale scale;
    std::memcpy(&scale, block, sizeof(scale));
    return FloatOf(scale);
  }

  static void Decode(const uint8_t* block, float* out) {
    const float scale = ScaleOf(block);
    const int zero = block[sizeof(Scale)];
    for (int i = 0; i < kElements; ++i) {
      const int q = kBits == 8 ? block[kQuants + i] : (block[kQuants + i / 2] >> 4 * (i % 2)) & 15;
      out[i] = scale * static_cast<float>(q - zero);
    }
  }

  // From the least value to the largest, zero among them, as GPTQ's quantizer has it.
  static void Encode(const float* in, uint8_t* block) {
    float least = 0;
    float most = 0;
    for (int i = 0; i < kElements; ++i) {
      if (!std::isfinite(in[i])) continue;
      least = std::min(least, in[i]);
      most = std::max(most, in[i]);
    }
    // Halves first: the difference of the two need not be finite.
    const float wanted = most > least ? (most / kMost - least / kMost) : 1;
    Scale scale;
    Narrow(std::clamp(wanted, 6e-5f, 6e4f), scale);
    std::memcpy(block, &scale, sizeof(scale));
    const float step = FloatOf(scale);
    const int zero = RoundTo(-least / step, 0, kMost);
    block[sizeof(Scale)] = static_cast<uint8_t>(zero);
    for (int i = 0; i < kElements; ++i) {
      const float x = std::isfinite(in[i]) ? in[i] : 0;
      const int q = RoundTo(x / step + static_cast<float>(zero), 0, kMost);
      if (kBits == 8) {
        block[kQuants + i] = static_cast<uint8_t>(q);
      } else {
        uint8_t& byte = block[kQuants + i / 2];
        byte = static_cast<uint8_t>(byte | q << 4 * (i % 2));
      }
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

}  // namespace

const WeightFormat kIntGroupFormats[kIntGroupFormatCount] = {
    IntGroup<4, 32, Float16>::Format("int4_g32"),
    IntGroup<4, 64, Float16>::Format("int4_g64"),
    IntGroup<4, 128, Float16>::Format("int4_g128"),
    IntGroup<4, 32, BFloat16>::Format("int4_g32_bf16"),
    IntGroup<4, 64, BFloat16>::Format("int4_g64_bf16"),
    IntGroup<4, 128, BFloat16>::Format("int4_g128_bf16"),
    IntGroup<8, 32, Float16>::Format("int8_g32"),
    IntGroup<8, 128, Float16>::Format("int8_g128"),
    IntGroup<8, 32, BFloat16>::Format("int8_g32_bf16"),
    IntGroup<8, 128, BFloat16>::Format("int8_g128_bf16"),
    IntGroup<8, 32, float>::Format("int8_g32_f32"),
    IntGroup<8, 128, float>::Format("int8_g128_f32"),
};

const WeightFormat* FindIntGroupFormat(int bits, int64_t group, DType scale) {
  const std::string suffix = scale == DType::kF16 ? "" : absl::StrCat("_", DTypeName(scale));
  for (const int64_t elements : {128, 64, 32}) {
    if (group % elements != 0) continue;
    const std::string name = absl::StrCat("int", bits, "_g", elements, suffix);
    for (const WeightFormat& format : kIntGroupFormats) {
      if (format.name == name) return &format;
    }
  }
  return nullptr;
}

}  // namespace tprun
