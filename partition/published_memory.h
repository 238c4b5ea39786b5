#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tprun {

// What engines said they used, beside what our formulas give for the same model and settings. The
// file is a list of records as in the measurements that docs/planning.md names; one that does not
// say enough is left out.

struct MemoryComparison {
  std::string id;
  std::string engine;
  std::string what;  // "KV cache", "weights", "weights and KV cache"
  double predicted_bytes = 0;
  double reported_bytes = 0;
  double reported_step = 0;  // of the last digit that was printed, in bytes
  bool rule_known = true;    // false: the engine adds buffers whose rule it does not tell

  double error() const { return predicted_bytes / reported_bytes - 1; }
  // Equal as far as the report's digits tell.
  bool exact() const;
};

// InvalidArgument if the file is not as expected.
absl::StatusOr<std::vector<MemoryComparison>> ComparePublishedMemory(const std::string& path);

}  // namespace tprun
