#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tprun {

// What `nvidia-smi --query-gpu=... --format=csv` printed.
struct NvidiaSmiCsv {
  std::vector<std::string> columns;  // as printed: "memory.total [MiB]"
  std::vector<std::vector<std::string>> rows;
  std::vector<int> lines;  // of the rows
};

// The first such table of a text. InvalidArgument gives `path`, line and reason; also without the
// header (noheader), as the columns are then unknown.
absl::StatusOr<NvidiaSmiCsv> ParseNvidiaSmiCsv(const std::string& text, const std::string& path);

}  // namespace tprun
