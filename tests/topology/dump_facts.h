#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace tprun {

// What the readers make of a dump, said in the terms of the shared index (FORMATS.md there defines
// expected_json): GPUs are numbered in document order, pairs are "0-1", unknown is null. `kind` is
// that of the index; nothing depends on the file's name. Facts of the machine come from the
// Topology, those of the dump itself (its columns, what it prints) from its reader.
absl::StatusOr<nlohmann::json> DumpFacts(const std::string& kind, const std::string& text,
                                         const std::string& path);

}  // namespace tprun
