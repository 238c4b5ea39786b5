#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "topology/topology.h"

namespace tprun {

// Tables of hosts, devices and links with total and free memory, and the notes. Equal links are
// shown together. `color`: with terminal escape codes.
std::string TopologyText(const Topology& topology, bool color);

// Everything, keys in a fixed order; "tprun_topology" is the version of the form.
Json TopologyJson(const Topology& topology);

// The inverse. `path` is for messages. InvalidArgument names the member.
absl::StatusOr<Topology> ParseTopologyJson(const Json& json, const std::string& path);

// A cluster file from which ReadClusterFile gives the same hosts, devices, links and notes.
std::string TopologyYaml(const Topology& topology);

// A drawing: hosts as boxes, devices in them, links coloured by kind. At most twelve hosts.
std::string TopologySvg(const Topology& topology);

}  // namespace tprun
