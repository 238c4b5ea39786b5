#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"

namespace tprun {

// A cluster file from its text. `path` is for messages and Topology::source. `catalogue` fills in
// what the file does not say about a GPU.
absl::StatusOr<Topology> ParseClusterFile(const std::string& text, const std::string& path,
                                          const GpuCatalogue& catalogue);

}  // namespace tprun
