#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// One kind of file that describes a machine. A new kind is one file that makes one of these and
// one line in registry (sources.cc).
class TopologyFormat {
 public:
  virtual ~TopologyFormat() = default;
  virtual absl::string_view name() const = 0;              // "nvidia-smi topo -m"
  virtual bool Matches(absl::string_view text) const = 0;  // by content; cheap, never fails
  // Says all it means to (our own kinds): nothing is to be added from the catalogue.
  virtual bool is_whole() const { return false; }
  // The facts of the text, with their sources. InvalidArgument gives `path`, line and reason. What
  // is odd but harmless becomes a note.
  virtual absl::StatusOr<Topology> Parse(const std::string& text,
                                         const std::string& path) const = 0;
};

std::unique_ptr<TopologyFormat> MakeNvidiaSmiMatrixFormat();  // topo -m
std::unique_ptr<TopologyFormat> MakeNvidiaSmiQueryFormat();   // -q
std::unique_ptr<TopologyFormat> MakeNvidiaSmiCsvFormat();     // --query-gpu=... --format=csv
std::unique_ptr<TopologyFormat> MakeNvidiaSmiTableFormat();   // the plain table
std::unique_ptr<TopologyFormat> MakeNvidiaSmiListFormat();    // -L, with MIG
std::unique_ptr<TopologyFormat> MakeNvidiaSmiMigFormat();     // mig -lgi
std::unique_ptr<TopologyFormat> MakeNvidiaSmiNvlinkFormat();  // nvlink -s
std::unique_ptr<TopologyFormat> MakeNvidiaSmiP2pFormat();     // topo -p2p
std::unique_ptr<TopologyFormat> MakeNcclXmlFormat();
std::unique_ptr<TopologyFormat> MakeHwlocXmlFormat();
std::unique_ptr<TopologyFormat> MakeClusterYamlFormat();
std::unique_ptr<TopologyFormat> MakeTopologyJsonFormat();
std::unique_ptr<TopologyFormat> MakeSyntheticFormat();  // "2x[4xrtx3090 nvlink-pairs] ib:100"

// All of them, in the order they are asked whether they match.
const std::vector<const TopologyFormat*>& TopologyFormats();

// Several texts about one machine become one Topology: devices are joined by UUID, else by PCI bus
// id, else by index where names and counts agree. For each fact the first topology of the list that
// states it wins; contradictions become notes.
absl::StatusOr<Topology> MergeTopologies(const std::vector<Topology>& by_priority);

// What is still unknown and what the catalogue or a stated estimate can say: bandwidth, peak rates,
// links by kind. Every such fact has its source.
class GpuCatalogue;
void CompleteTopology(const GpuCatalogue& catalogue, Topology& topology);

}  // namespace tprun
