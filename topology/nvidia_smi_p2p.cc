#include <algorithm>
#include <array>
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/nvidia_smi_grid.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi topo -p2p";

// NVIDIA's legend of the command.
constexpr std::array<std::pair<absl::string_view, absl::string_view>, 6> kReasons = {
    {{"CNS", "chipset not supported"},
     {"GNS", "GPU not supported"},
     {"TNS", "topology not supported"},
     {"NS", "not supported"},
     {"DR", "disabled by registry key"},
     {"U", "unknown"}}};

std::string ReasonOf(absl::string_view state) {
  for (const auto& [code, reason] : kReasons) {
    if (state == code) return absl::StrCat(code, ": ", reason);
  }
  return "";
}

// Square, the same GPUs in rows and columns, X on the diagonal only. States need not be symmetric.
absl::Status CheckGrid(const NvidiaSmiGrid& grid, const std::string& path) {
  const size_t gpus = grid.columns.size();
  std::set<std::string> names;
  for (const std::string& name : grid.columns) {
    if (GpuNumber(name) < 0 || !names.insert(name).second || gpus > kMaxGpus) {
      return LineError(path, grid.line, "wanted a header of distinct GPUs, as in GPU0 GPU1");
    }
  }
  if (grid.rows.size() != gpus) {
    return LineError(path, grid.rows.back().line,
                     absl::StrCat("wanted ", gpus, " rows, found ", grid.rows.size()));
  }
  for (size_t i = 0; i < gpus; ++i) {
    const NvidiaSmiGrid::Row& row = grid.rows[i];
    if (row.name != grid.columns[i] || row.cells.size() != gpus) {
      return LineError(path, row.line,
                       absl::StrCat("wanted ", grid.columns[i], " with ", gpus, " cells, found ",
                                    row.name, " with ", row.cells.size()));
    }
    for (size_t j = 0; j < gpus; ++j) {
      const bool is_state = row.cells[j] == "OK" || !ReasonOf(row.cells[j]).empty();
      if (i == j ? row.cells[j] == "X" : is_state) continue;
      return LineError(path, row.line,
                       absl::StrCat("wanted X toward itself and a state (OK, CNS, GNS, TNS, NS, "
                                    "DR, U) toward the others, found ",
                                    row.cells[j], " toward ", grid.columns[j]));
    }
  }
  return absl::OkStatus();
}

Link StateOf(const NvidiaSmiGrid& grid, int a, int b) {
  const std::string& there = grid.rows[a].cells[b];
  const std::string& back = grid.rows[b].cells[a];
  Link link = {.a = a, .b = b, .kind = LinkKind::kPcie};
  link.source = std::string(kName);
  const std::string& worse = there == "OK" ? back : there;
  if (worse == "U") return link;
  link.peer_access = worse == "OK" ? PeerAccess::kYes : PeerAccess::kNo;
  link.peer_access_reason = ReasonOf(worse);
  return link;
}

// The command's letter, where the paste has its command: r, w, n (NVLink), a (atomics), p (PCI).
char CommandLetter(absl::string_view text) {
  const size_t command = text.find("-p2p");
  if (command == absl::string_view::npos) return 0;
  const size_t letter = text.find_first_not_of(" \t", command + 4);
  return letter == absl::string_view::npos ? 0 : text[letter];
}

class NvidiaSmiP2pFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    const std::vector<NvidiaSmiGrid> grids = FindGrids(CleanLines(text));
    return std::any_of(grids.begin(), grids.end(),
                       [](const NvidiaSmiGrid& grid) { return grid.is_peer_states(); });
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    const std::vector<NvidiaSmiGrid> grids = FindGrids(CleanLines(text));
    const auto found = std::find_if(grids.begin(), grids.end(), [](const NvidiaSmiGrid& grid) {
      return grid.is_peer_states();
    });
    if (found == grids.end()) {
      return LineError(path, 1, "wanted the table of `nvidia-smi topo -p2p`, found none");
    }
    RETURN_IF_ERROR(CheckGrid(*found, path));
    const char letter = CommandLetter(text);
    const bool is_access = letter != 'n' && letter != 'a' && letter != 'p';
    Topology topology = EmptyDump(path);
    topology.notes.push_back(absl::StrCat(
        path, ": ", kName,
        is_access ? " says which GPUs reach each other, not how they are linked"
                  : " with this letter tells neither reads nor writes; it is left out"));
    const int gpus = static_cast<int>(found->columns.size());
    for (const std::string& column : found->columns) {
      topology.devices.push_back(NumberedGpu(GpuNumber(column), kName));
    }
    for (int a = 0; is_access && a < gpus; ++a) {
      for (int b = a + 1; b < gpus; ++b) topology.links.push_back(StateOf(*found, a, b));
    }
    return topology;
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNvidiaSmiP2pFormat() {
  return std::make_unique<NvidiaSmiP2pFormat>();
}

}  // namespace tprun
