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
  Host host;       // its name is "" when the file gives none
  DeviceInfo cpu;  // its id is "" when the file says that it is not known
  std::vector<DeviceInfo> gpus;
  std::vector<const GpuFacts*> facts;  // of each GPU in the catalogue; nullptr: not there
  std::vector<Link> nvlinks;           // a and b count within `gpus`
  std::vector<Nic> nics;               // their gpu_paths count within `gpus`
};

// Adds to `notes` what was assumed because the file does not say it.
absl::StatusOr<ClusterHost> ReadClusterHost(const std::string& path, const YAML::Node& node,
                                            const GpuCatalogue& catalogue,
                                            std::vector<std::string>& notes);

}  // namespace tprun
