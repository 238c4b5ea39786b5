#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "topology/nvidia_smi_affinity.h"
#include "topology/nvidia_smi_grid.h"

namespace tprun {

// What `nvidia-smi topo -m` says, cell by cell; see NVIDIA's legend of the command.
struct NvidiaSmiMatrix {
  struct Gpu {
    int index = 0;  // of "GPU3"
    int line = 0;
    std::vector<std::string> cells;  // toward each column: "X", "NV4", "SYS" ("SOC" is the older)
    AffinityValues affinities;       // as printed
  };
  bool has_header = false;
  std::vector<std::string> columns;              // "GPU0", ..., then the NICs
  int affinity_columns = 0;                      // how many of kAffinityColumns there are
  std::vector<Gpu> gpus;                         // the first columns are theirs, in their order
  std::map<std::string, std::string> nic_names;  // from the legend: {"NIC0", "mlx5_0"}
  std::vector<std::string> notes;
};

// The matrix of a text, checked to be square and symmetric with X on its diagonal only.
// InvalidArgument gives `path`, line and reason; also for the table of `topo -p2p`, and for two
// matrices that differ.
absl::StatusOr<NvidiaSmiMatrix> ParseNvidiaSmiMatrix(const std::string& text,
                                                     const std::string& path);

}  // namespace tprun
