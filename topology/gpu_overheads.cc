#include "topology/gpu_overheads.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "topology/gpu_catalogue.h"
#include "topology/yaml_map.h"

namespace tprun {
namespace {

absl::StatusOr<GpuOverheads> ReadEntry(const std::string& path, const YAML::Node& node) {
  ASSIGN_OR_RETURN(const YamlMap map,
                   YamlMap::Open(path, node, "overheads",
                                 {"device", "compute_capability", "context", "nccl_base",
                                  "nccl_channel", "date", "source", "doubt"}));
  GpuOverheads overheads;
  ASSIGN_OR_RETURN(overheads.device, map.StringOr("device", ""));
  ASSIGN_OR_RETURN(overheads.compute_capability, map.StringOr("compute_capability", ""));
  ASSIGN_OR_RETURN(overheads.context_bytes, map.Bytes("context"));
  ASSIGN_OR_RETURN(overheads.nccl_base_bytes, map.Bytes("nccl_base"));
  ASSIGN_OR_RETURN(overheads.nccl_channel_bytes, map.Bytes("nccl_channel"));
  ASSIGN_OR_RETURN(overheads.date, map.String("date"));
  ASSIGN_OR_RETURN(overheads.source, map.String("source"));
  ASSIGN_OR_RETURN(overheads.doubt, map.StringOr("doubt", ""));
  return overheads;
}

absl::StatusOr<std::vector<GpuOverheads>> ReadDefault() {
  ASSIGN_OR_RETURN(const std::string folder, ClustersDirectory());
  return ReadGpuOverheads(JoinPath(folder, "devices/overheads.yaml"));
}

}  // namespace

absl::StatusOr<std::vector<GpuOverheads>> ReadGpuOverheads(const std::string& path) {
  ASSIGN_OR_RETURN(const YAML::Node root, LoadYaml(path));
  ASSIGN_OR_RETURN(const YamlMap map, YamlMap::Open(path, root, "overheads", {"overheads"}));
  ASSIGN_OR_RETURN(const auto nodes, YamlList(path, map.Get("overheads"), "overheads", 1000));
  std::vector<GpuOverheads> all;
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(GpuOverheads entry, ReadEntry(path, node));
    all.push_back(std::move(entry));
  }
  return all;
}

GpuOverheads OverheadsOfGpu(const std::vector<GpuOverheads>& all, const DeviceInfo& gpu) {
  GpuOverheads found;
  found.source = "not known";
  for (const GpuOverheads& entry : all) {
    if (!entry.device.empty() && entry.device != gpu.name) continue;
    const std::string& capability = entry.compute_capability;
    if (!capability.empty() && capability != gpu.compute_capability) continue;
    found = entry;
    break;
  }
  return found;
}

namespace {

GpuOverheads OfItsType(const DeviceInfo& gpu) {
  static const absl::StatusOr<std::vector<GpuOverheads>>* const all =
      new absl::StatusOr<std::vector<GpuOverheads>>(ReadDefault());
  if (all->ok()) return OverheadsOfGpu(**all, gpu);
  GpuOverheads none = OverheadsOfGpu({}, gpu);
  none.source = absl::StrCat("not counted: ", absl::string_view(all->status().message()));
  return none;
}

}  // namespace

GpuOverheads OverheadsOfGpu(const DeviceInfo& gpu) {
  GpuOverheads overheads = OfItsType(gpu);
  const DeviceMeasurements& measured = gpu.measured;
  std::vector<std::string> names;
  const auto take = [&](int64_t bytes, const char* name, int64_t& out) {
    if (bytes <= 0) return;
    out = bytes;
    names.push_back(name);
  };
  take(measured.context_bytes, "context", overheads.context_bytes);
  take(measured.nccl_base_bytes, "nccl_base", overheads.nccl_base_bytes);
  take(measured.nccl_channel_bytes, "nccl_channel", overheads.nccl_channel_bytes);
  if (names.empty()) return overheads;
  const std::string when = measured.date.empty() ? "" : absl::StrCat(" ", measured.date);
  overheads.measured =
      absl::StrCat("measured on this card", when, ": ", absl::StrJoin(names, ", "));
  return overheads;
}

}  // namespace tprun
