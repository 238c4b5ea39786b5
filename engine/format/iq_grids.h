#pragma once

#include <cstdint>
#include <cstring>

#include "engine/format/blocks.h"
#include "engine/format/iq_grid_values.h"
#include "engine/format/weight_format.h"

namespace tprun {

// ggml's iq1, iq2 and iq3 formats (ggml-common.h). Each entry of their code books
// (iq_grid_values.h) gives eight (iq3: four) magnitudes, as 2 (iq3: 3) bits each from the lowest
// on, that number a level. Their encoders need a search that only ggml has: there are decoders
// alone.
inline constexpr int kIqElements = 256;

inline uint32_t U16At(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

inline uint32_t U32At(const uint8_t* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// Seven signs are stored, the eighth makes their number even (ggml's ksigns).
inline uint32_t EvenSigns(uint32_t seven_bits) {
  const uint32_t bits = seven_bits & 127;
  return bits | static_cast<uint32_t>(__builtin_parity(bits)) << 7;
}

inline float WithSign(float value, uint32_t signs, int i) {
  return ((signs >> i) & 1) != 0 ? -value : value;
}

template <auto kDecode, int64_t kBytes>
constexpr WeightFormat DecodeOnly(absl::string_view name, int ggml_type) {
  return {name,   ggml_type, "", kIqElements, kBytes, DecodeAll<kDecode, kIqElements, kBytes>,
          nullptr};
}

}  // namespace tprun
