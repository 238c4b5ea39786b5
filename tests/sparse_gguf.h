#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/json.h"

namespace tprun {

// GGUF files with a real header and no data, for tests of planning: the file has the full length,
// but takes no space on a disk that knows holes.

struct SparseTensor {
  std::string name;
  std::vector<int64_t> shape;  // row-major
  std::string format;          // "q4_k", see FindWeightFormat
};

absl::Status WriteSparseGguf(const std::string& path, const Json& metadata,
                             const std::vector<SparseTensor>& tensors);

}  // namespace tprun
