#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"
#include "topology/yaml_map.h"

namespace tprun {

// One element of "hosts" of a cluster file.
struct ClusterHost {
  int count = 1;  // equal hosts
  Host host;      // its name is "" when the file gives none
  DeviceInfo cpu;
  std::vector<DeviceInfo> gpus;
  std::vector<Link> nvlinks;  // a and b count within `gpus`
};

// Adds to `notes` what was assumed because the file does not say it.
absl::StatusOr<ClusterHost> ReadClusterHost(const std::string& path, const YAML::Node& node,
                                            const GpuCatalogue& catalogue,
                                            std::vector<std::string>& notes);

}  // namespace tprun
