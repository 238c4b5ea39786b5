#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "topology/topology.h"

namespace tprun {

// What a text describes, whatever its kind (TopologyFormats tells it by content). A paste of
// several outputs of nvidia-smi gives all their facts. `path` is for messages. InvalidArgument
// gives path, line and reason, or names the kinds there are.
absl::StatusOr<Topology> ParseTopologyText(const std::string& text, const std::string& path);

// Several files about one machine, merged (MergeTopologies); what the first state goes before the
// others. "-" is standard input, and what is no file but reads as one a synthetic line
// (synthetic.h).
absl::StatusOr<Topology> ReadTopologyFiles(const std::vector<std::string>& paths);

}  // namespace tprun
