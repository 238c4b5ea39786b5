#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// Published facts about a GPU, as far as we need them. See clusters/gpus.yaml for their sources.
struct GpuFacts {
  std::string name;  // as NVML names it: "NVIDIA GeForce RTX 3090"
  std::vector<std::string> aliases;
  int64_t memory_bytes = 0;  // as NVML shows it, a little under the printed size
  double memory_bandwidth_bytes_per_s = 0;
  std::string compute_capability;
  int pcie_generation = 0;
  int pcie_width = 0;
  int nvlink_links = 0;                     // 0: no NVLink
  double nvlink_bandwidth_bytes_per_s = 0;  // of all links together, per direction
};

// The GPUs we know by name.
class GpuCatalogue {
 public:
  GpuCatalogue() = default;  // knows none
  explicit GpuCatalogue(std::vector<GpuFacts> gpus) : gpus_(std::move(gpus)) {}

  static absl::StatusOr<GpuCatalogue> Read(const std::string& path);
  // gpus.yaml of ClustersDirectory().
  static absl::StatusOr<GpuCatalogue> ReadDefault();

  // By name or alias; "NVIDIA", "GeForce", "Tesla", case, blanks and dashes do not matter. Of
  // several cards sold under one name the one closest to `memory_bytes` (0: the first) is meant.
  // nullptr if unknown; valid as long as the catalogue.
  const GpuFacts* Find(absl::string_view name, int64_t memory_bytes = 0) const;

  const std::vector<GpuFacts>& gpus() const { return gpus_; }

 private:
  std::vector<GpuFacts> gpus_;
};

// The folder with machine descriptions and gpus.yaml: $TPRUN_CLUSTERS, or ../share/tprun/clusters
// beside the program's folder (an installed program), or the source folder. NotFound says where it
// looked.
absl::StatusOr<std::string> ClustersDirectory();

}  // namespace tprun
