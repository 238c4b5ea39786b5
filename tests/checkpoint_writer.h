#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/json.h"
#include "engine/format/weight_format.h"

namespace tprun {

// Writers of small checkpoints, for tests only. Shapes are row-major, [out, in].

struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  const WeightFormat* format = &kF32Format;
  std::string bytes;  // format->Bytes(elements)
};

// Encodes `values` in `format`.
TensorToWrite MakeTensor(std::string name, std::vector<int64_t> shape, const WeightFormat& format,
                         const std::vector<float>& values);

// The bytes of a safetensors file.
std::string SafetensorsFile(const std::vector<TensorToWrite>& tensors);

// The bytes of a GGUF file. Metadata: strings, bools, integers (as u32, i32 when negative, u64 or
// i64 when large), other numbers (as f32), arrays of one of these or of arrays.
std::string GgufFile(const Json& metadata, const std::vector<TensorToWrite>& tensors,
                     uint32_t version = 3);

// Little-endian pieces of a GGUF file, for files that no writer would make.
std::string GgufNumber(uint64_t value, int bytes);
std::string GgufString(absl::string_view text);  // u64 length, bytes

}  // namespace tprun
