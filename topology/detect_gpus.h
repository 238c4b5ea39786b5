#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"

namespace tprun {

struct GpuSource {
  std::string nvml_library = "libnvidia-ml.so.1";
  std::string sysfs_root = "";                           // put in front of /sys
  std::optional<std::string> cuda_visible_devices = {};  // absent: the variable is not set
  std::optional<std::string> cuda_device_order = {};

  // What this process sees.
  static GpuSource OfEnvironment();
};

// The GPUs of this machine in the order CUDA_VISIBLE_DEVICES asks for, "cuda:0" first. Nothing here
// is an error: what cannot be seen becomes a note.
struct DetectedGpus {
  std::vector<DeviceInfo> gpus;
  std::vector<Link> links;                      // one of every two; a and b count within `gpus`
  std::vector<int> c2c;                         // those joined with their CPU by NVLink-C2C
  std::map<std::string, std::string> software;  // for Host::software: driver, cuda, nvml
  std::vector<std::string> notes;
};
DetectedGpus DetectGpus(const GpuSource& source, const GpuCatalogue& catalogue);

// Which of the cards with these UUIDs a value of CUDA_VISIBLE_DEVICES selects, in its order; MIG
// instances, which only their UUID names, count on behind the cards. As CUDA does, it stops at the
// first entry that names none ("-1" is a way to say so), and selects nothing when one is named
// twice. Adds a note for what it does not understand.
std::vector<int> SelectVisible(absl::string_view value, absl::Span<const std::string> uuids,
                               absl::Span<const std::string> instance_uuids,
                               std::vector<std::string>& notes);

// Of one link of a card, per direction.
double NvlinkBandwidthPerLink(unsigned version, absl::string_view compute_capability);

}  // namespace tprun
