#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "topology/detect_gpus.h"
#include "topology/detect_host.h"
#include "topology/detect_nics.h"
#include "topology/detect_pci.h"
#include "topology/gpu_catalogue.h"
#include "topology/source.h"
#include "topology/topology.h"

namespace tprun {
namespace {

void AppendNotes(std::vector<std::string> from, Topology& topology) {
  for (std::string& note : from) topology.notes.push_back(std::move(note));
}

void AddGpus(DetectedGpus detected, Topology& topology) {
  const int first = static_cast<int>(topology.devices.size());
  for (int gpu : detected.c2c) {
    Link link;
    link.a = 0;  // the CPU
    link.b = first + gpu;
    link.kind = LinkKind::kC2c;
    link.source = "nvml";
    topology.links.push_back(std::move(link));
  }
  for (DeviceInfo& gpu : detected.gpus) topology.devices.push_back(std::move(gpu));
  for (Link& link : detected.links) {
    link.a += first;
    link.b += first;
    topology.links.push_back(std::move(link));
  }
  topology.hosts[0].software.merge(detected.software);
  AppendNotes(std::move(detected.notes), topology);
}

void AddNics(std::vector<Nic> nics, Topology& topology) {
  for (Nic& nic : nics) {
    for (size_t i = 0; i < topology.devices.size(); ++i) {
      const DeviceInfo& gpu = topology.devices[i];
      if (gpu.kind != DeviceKind::kGpu || !gpu.sources.count("pci_bridges")) continue;
      nic.gpu_paths[static_cast<int>(i)] =
          PciDistance({nic.pci_bus_id, nic.pci_bridges, nic.numa_node},
                      {gpu.pci_bus_id, gpu.pci_bridges, gpu.numa_node});
    }
    if (!nic.gpu_paths.empty()) nic.sources["gpu_paths"] = "sysfs";
    topology.nics.push_back(std::move(nic));
  }
}

}  // namespace

absl::StatusOr<Topology> DetectTopology() {
  ASSIGN_OR_RETURN(DetectedHost host, DetectHost());
  Topology topology;
  topology.source = "this machine";
  topology.hosts.push_back(std::move(host.host));
  topology.devices.push_back(std::move(host.cpu));
  topology.notes = std::move(host.notes);

  const absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
  DetectedGpus gpus =
      DetectGpus(GpuSource::OfEnvironment(), catalogue.ok() ? *catalogue : GpuCatalogue());
  if (!catalogue.ok() && !gpus.gpus.empty()) {
    topology.notes.push_back(absl::StrCat("the GPU catalogue is not used: ",
                                          absl::string_view(catalogue.status().message())));
  }
  AddGpus(std::move(gpus), topology);
  AddNics(DetectNics(), topology);
  CompleteTopology(catalogue.ok() ? *catalogue : GpuCatalogue(), topology);
  return topology;
}

}  // namespace tprun
