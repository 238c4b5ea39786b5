#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// Published facts about a GPU. See clusters/gpus.yaml for their sources. 0 and "": not known.
struct GpuFacts {
  std::string name;  // as NVML names it: "NVIDIA GeForce RTX 3090"
  std::vector<std::string> aliases;
  std::string device_class;  // "datacenter", "workstation", "geforce", "mobile", "jetson", ...
  std::string architecture;  // "Ampere"
  std::vector<std::string> pci_ids;  // "10de:2204"
  int64_t memory_bytes = 0;          // as NVML shows it, a little under the printed size
  bool unified_memory = false;       // the memory is the CPU's too
  double memory_bandwidth_bytes_per_s = 0;
  std::string compute_capability;
  int pcie_generation = 0;
  int pcie_width = 0;
  std::optional<bool> pcie_peer_access;  // false: the driver offers none over PCIe
  int nvlink_generation = 0;
  int nvlink_links = 0;                          // 0: no NVLink
  double nvlink_bandwidth_bytes_per_s = 0;       // of all links together, per direction
  std::map<std::string, double> peak_ops_per_s;  // dense, by dtype; fp16_fp16acc sums in fp16
  int64_t l2_bytes = 0;
  int multiprocessors = 0;
  double tdp_w = 0;
  std::string doubt;  // what sources disagree on
  std::string source;
};

// The GPUs we know by name or PCI id.
class GpuCatalogue {
 public:
  GpuCatalogue() = default;  // knows none
  explicit GpuCatalogue(std::vector<GpuFacts> gpus);

  static absl::StatusOr<GpuCatalogue> Read(const std::string& path);
  // gpus.yaml of ClustersDirectory().
  static absl::StatusOr<GpuCatalogue> ReadDefault();

  // By name or alias; "NVIDIA", "GeForce", "Tesla", case, blanks and dashes do not matter. Of
  // several cards sold under one name the one closest to `memory_bytes` (0: the first) is meant.
  // nullptr if unknown; valid as long as the catalogue.
  const GpuFacts* Find(absl::string_view name, int64_t memory_bytes = 0) const;

  // The known names that are spelt most like `name`, as one types them ("rtx4090"); at most three,
  // none where nothing comes near.
  std::vector<std::string> Similar(absl::string_view name) const;

  // By PCI id ("10de:2204"); nullptr if unknown. `memory_bytes` as above.
  const GpuFacts* FindPciId(absl::string_view pci_id, int64_t memory_bytes = 0) const;

  // A card that is not in the catalogue: the one of the same compute capability (where given, else
  // any) whose memory is closest. nullptr for an empty catalogue.
  const GpuFacts* Nearest(absl::string_view compute_capability, int64_t memory_bytes) const;

  const std::vector<GpuFacts>& gpus() const { return gpus_; }

 private:
  const GpuFacts* Closest(const std::vector<int>& places, int64_t memory_bytes) const;

  std::vector<GpuFacts> gpus_;
  std::map<std::string, std::vector<int>> by_name_;  // normalised names and aliases
  std::map<std::string, std::vector<int>> by_pci_id_;
};

// The folder with machine descriptions and gpus.yaml: $TPRUN_CLUSTERS, or ../share/tprun/clusters
// beside the program's folder (an installed program), or the source folder. NotFound says where it
// looked.
absl::StatusOr<std::string> ClustersDirectory();

}  // namespace tprun
