#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/format/weight_format.h"

namespace tprun {

// A tensor that a GGUF file is to hold.
struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // slowest dimension first, at most 4
  const WeightFormat* format = nullptr;
  int64_t offset = 0;  // of its first byte, from the start of the file; set by LayOutGguf
  int64_t bytes = 0;   // likewise
};

// Everything in front of the tensors' data, and where that goes. Between tensors are zeros.
struct GgufLayout {
  std::string header;
  std::vector<GgufTensor> tensors;
  int64_t file_bytes = 0;
};

// Version 3, little-endian. Integers of `metadata` become u32, i32, u64 or i64, whichever is first
// to hold them, those of arrays i32 where they fit; other numbers f32 where that is exact or the
// number came from one, else f64. "general.alignment" counts, 32 without it. InvalidArgument: a
// format that GGUF has no type for, a name of more than 64 bytes, rows of no whole blocks.
absl::StatusOr<GgufLayout> LayOutGguf(const Json& metadata, std::vector<GgufTensor> tensors);

}  // namespace tprun
