#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "topology/cpu_list.h"
#include "topology/nvidia_smi_matrix.h"
#include "topology/nvidia_smi_text.h"
#include "topology/nvlink_switch.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi topo -m";

// A cell is one of these or NV#, as the reader has checked.
LinkKind KindOf(absl::string_view cell) {
  if (cell == "PIX") return LinkKind::kPix;
  if (cell == "PXB") return LinkKind::kPxb;
  if (cell == "PHB") return LinkKind::kPhb;
  if (cell == "NODE") return LinkKind::kNode;
  return absl::StartsWith(cell, "NV") ? LinkKind::kNvlink : LinkKind::kSystem;
}

// A list on Grace: the CPU's node and those that GPU memory may have; the first is the CPU's.
int FirstNode(absl::string_view list) {
  int node = -1;
  const absl::string_view first = list.substr(0, list.find_first_of(",-"));
  return absl::SimpleAtoi(first, &node) && node >= 0 ? node : -1;
}

void StateAffinities(const NvidiaSmiMatrix::Gpu& gpu, const std::string& path, DeviceInfo& device,
                     Topology& topology) {
  const auto stated = [&gpu](int column) {
    const std::string value = gpu.affinities[column].value_or("");
    return IsStated(value) ? value : std::string();
  };
  const auto is_list = [&](const std::string& value, int column) {
    if (value.empty()) return false;
    const absl::Status status = ParseCpuList(value).status();
    if (status.ok()) return true;
    topology.notes.push_back(absl::StrCat(path, ":", gpu.line, ": ", kAffinityColumns[column],
                                          " is left out: ", status.message()));
    return false;
  };
  const std::string cpus = stated(0), node = stated(1), memory_node = stated(2);
  if (is_list(cpus, 0)) State(device.cpus, cpus, "cpus", kName, device.sources);
  if (is_list(node, 1)) {
    State(device.numa_node, FirstNode(node), "numa_node", kName, device.sources);
  }
  if (is_list(memory_node, 2)) {
    State(device.memory_numa_node, FirstNode(memory_node), "memory_numa_node", kName,
          device.sources);
  }
}

void AddLinks(const NvidiaSmiMatrix& matrix, Topology& topology) {
  const int gpus = static_cast<int>(matrix.gpus.size());
  for (int a = 0; a < gpus; ++a) {
    for (int b = a + 1; b < gpus; ++b) {
      const std::string& cell = matrix.gpus[a].cells[b];
      Link link = {.a = a, .b = b, .kind = KindOf(cell)};
      if (link.kind == LinkKind::kNvlink) (void)absl::SimpleAtoi(cell.substr(2), &link.count);
      link.source = std::string(kName);
      topology.links.push_back(std::move(link));
    }
  }
}

void AddNics(const NvidiaSmiMatrix& matrix, Topology& topology) {
  for (size_t column = matrix.gpus.size(); column < matrix.columns.size(); ++column) {
    Nic nic;
    const auto legend = matrix.nic_names.find(matrix.columns[column]);
    nic.name = legend == matrix.nic_names.end() ? matrix.columns[column] : legend->second;
    nic.sources["name"] = std::string(kName);
    for (size_t gpu = 0; gpu < matrix.gpus.size(); ++gpu) {
      nic.gpu_paths[static_cast<int>(gpu)] = KindOf(matrix.gpus[gpu].cells[column]);
    }
    nic.sources["gpu_paths"] = std::string(kName);
    topology.nics.push_back(std::move(nic));
  }
}

class NvidiaSmiMatrixFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    const std::vector<NvidiaSmiGrid> grids = FindGrids(CleanLines(text));
    return std::any_of(grids.begin(), grids.end(),
                       [](const NvidiaSmiGrid& grid) { return !grid.is_peer_states(); });
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    ASSIGN_OR_RETURN(const NvidiaSmiMatrix matrix, ParseNvidiaSmiMatrix(text, path));
    Topology topology = EmptyDump(path);
    topology.notes = matrix.notes;
    for (const NvidiaSmiMatrix::Gpu& gpu : matrix.gpus) {
      DeviceInfo device = NumberedGpu(gpu.index, kName);
      StateAffinities(gpu, path, device, topology);
      topology.devices.push_back(std::move(device));
    }
    AddLinks(matrix, topology);
    AddNics(matrix, topology);
    MarkSwitchedLinks(topology);
    return topology;
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNvidiaSmiMatrixFormat() {
  return std::make_unique<NvidiaSmiMatrixFormat>();
}

}  // namespace tprun
