#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/derive_links.h"
#include "topology/detect_gpus.h"
#include "topology/detect_host.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"

namespace tprun {
namespace {

std::optional<std::string> Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

}  // namespace

absl::StatusOr<Topology> DetectTopology() {
  ASSIGN_OR_RETURN(DetectedHost host, DetectHost());
  Topology topology;
  topology.source = "this machine";
  topology.hosts.push_back(std::move(host.host));
  topology.devices.push_back(std::move(host.cpu));
  topology.notes = std::move(host.notes);

  const GpuSource source = {.cuda_visible_devices = Environment("CUDA_VISIBLE_DEVICES"),
                            .cuda_device_order = Environment("CUDA_DEVICE_ORDER")};
  const absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
  DetectedGpus gpus = DetectGpus(source, catalogue.ok() ? *catalogue : GpuCatalogue());
  if (!catalogue.ok() && !gpus.gpus.empty()) {
    topology.notes.push_back(absl::StrCat("the GPU catalogue is not used: ",
                                          absl::string_view(catalogue.status().message())));
  }
  const int first = static_cast<int>(topology.devices.size());
  for (DeviceInfo& gpu : gpus.gpus) topology.devices.push_back(std::move(gpu));
  for (Link link : gpus.nvlinks) {
    link.a += first;
    link.b += first;
    topology.links.push_back(link);
  }
  for (std::string& note : gpus.notes) topology.notes.push_back(std::move(note));
  AddHostLinks(topology);
  return topology;
}

}  // namespace tprun
