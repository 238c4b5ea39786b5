// Feeds the readers of cluster files, captures and synthetic lines, and what tells all kinds apart,
// whatever comes (FUZZED_KIND: yaml, json, synthetic or any).

#include <cstddef>
#include <cstdint>

#include "base/json.h"
#include "tests/fuzz/sound_topology.h"
#include "topology/cluster_file.h"
#include "topology/format_topology.h"
#include "topology/gpu_catalogue.h"
#include "topology/synthetic.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

const GpuCatalogue& Catalogue() {
  static const GpuCatalogue catalogue = [] {
    absl::StatusOr<GpuCatalogue> read = GpuCatalogue::ReadDefault();
    return read.ok() ? *std::move(read) : GpuCatalogue();
  }();
  return catalogue;
}

[[maybe_unused]] void Feed_yaml(const std::string& text) {
  CheckSound(ParseClusterFile(text, "input", Catalogue()));
}

[[maybe_unused]] void Feed_json(const std::string& text) {
  const absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return;
  const absl::StatusOr<Topology> topology = ParseTopologyJson(*json, "input");
  CheckSound(topology);
  if (topology.ok()) CheckSound(ParseTopologyJson(TopologyJson(*topology), "again"));
}

[[maybe_unused]] void Feed_synthetic(const std::string& text) {
  if (LooksSynthetic(text)) CheckSound(ParseSynthetic(text, Catalogue()));
}

[[maybe_unused]] void Feed_any(const std::string& text) {
  CheckSound(ParseTopologyText(text, "input"));
}

}  // namespace
}  // namespace tprun

#define TPRUN_FEED(kind) Feed_##kind
#define TPRUN_FEED_KIND(kind) TPRUN_FEED(kind)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tprun::TPRUN_FEED_KIND(FUZZED_KIND)(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
