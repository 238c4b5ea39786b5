#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "topology/nvidia_smi_text.h"

namespace tprun {

// A table of `nvidia-smi topo`: a header with a column for each GPU and NIC, a row for each.
// `topo -m` (ways) and `topo -p2p` (states) look alike; only their cells tell them apart.
struct NvidiaSmiGrid {
  struct Row {
    std::string name;  // "GPU0", "NIC3", "mlx5_0"
    int line = 0;
    std::vector<std::string> cells;
    std::string text;          // the whole row
    size_t tail_position = 0;  // where the matrix ends in it and the affinities begin
  };
  int line = 0;         // of the first line
  int header_line = 0;  // 0: the header is missing
  std::string header;
  std::vector<std::string> columns;  // GPUs and NICs
  size_t tail_position = 0;          // where the affinity columns begin in the header
  std::vector<Row> rows;

  bool is_peer_states() const;  // topo -p2p
};

// All tables of a text. Cells that ran together ("NODENODE", "NIC8NIC9") are taken apart.
std::vector<NvidiaSmiGrid> FindGrids(const std::vector<TextLine>& lines);

// "GPU7": 7; -1 for anything else.
int GpuNumber(absl::string_view name);

}  // namespace tprun
