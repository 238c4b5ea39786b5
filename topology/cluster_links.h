#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "topology/topology.h"
#include "topology/yaml_map.h"

namespace tprun {

// The host names in the device ids of a cluster file's "links".
std::set<std::string> HostsOfLinks(const YamlMap& cluster);

// "links" of a cluster file. Its ids are those of LocateDevice; "node/cuda:0" of hosts that are
// there several times means that device of each of them.
absl::Status ReadClusterLinks(const YamlMap& cluster, Topology& topology);

// "network" and "fabrics".
absl::Status ReadClusterFabrics(const YamlMap& cluster, Topology& topology);

}  // namespace tprun
