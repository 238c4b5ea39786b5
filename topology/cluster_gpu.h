#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "topology/cluster_host.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"
#include "topology/yaml_map.h"

namespace tprun {

constexpr int kMaxGpusOfHost = 64;

// An element of "gpus" of a host: {name: N, ...}, N: {...}, or N alone. Appends to `out.gpus`.
absl::Status ReadClusterGpu(const std::string& path, const YAML::Node& node,
                            const GpuCatalogue& catalogue, ClusterHost& out,
                            std::vector<std::string>& notes);

// What CPUs and GPUs have in common: "available" is at most the memory; "measured" is true (then
// "bandwidth" was) or a mapping of what was measured.
absl::Status CheckAvailable(const YamlMap& map, const DeviceInfo& device);
absl::Status ReadMeasured(const YamlMap& map, DeviceInfo& device);

// A list of mappings; absent is empty.
absl::StatusOr<std::vector<YamlMap>> YamlMaps(const YamlMap& map, absl::string_view key, size_t max,
                                              std::initializer_list<absl::string_view> known);

}  // namespace tprun
