#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// Element types of activations, KV caches and messages between ranks. Weights have more (see
// engine/format/weight_format.h).
enum class DType : uint8_t { kF32, kF16, kBF16 };

size_t SizeOf(DType dtype);                                // bytes per element
absl::string_view DTypeName(DType dtype);                  // "f32", "f16", "bf16"
absl::StatusOr<DType> ParseDType(absl::string_view name);  // the inverse; names the choices

// Storage of a bfloat16 or IEEE binary16 value; arithmetic goes through float.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline float ToFloat(float value) { return value; }
inline float ToFloat(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
float ToFloat(Float16 value);
BFloat16 ToBFloat16(float value);  // rounds to nearest even, NaN stays quiet
Float16 ToFloat16(float value);    // rounds to nearest even, overflow becomes infinity

}  // namespace tprun
