#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

// The header of one GGUF file (of version 2 or 3, little-endian).
struct GgufHeader {
  uint32_t version = 0;
  Json metadata = Json::object();
  std::vector<CheckpointTensor> tensors;  // offsets from the start of the file
};

// Reads and checks it; the data is not touched. A tensor of a type that this program cannot decode
// has no format but right bytes; of a type it never heard of, bytes reach to the next tensor.
absl::StatusOr<GgufHeader> ReadGgufHeader(const RandomAccessFile& file);

}  // namespace tprun
