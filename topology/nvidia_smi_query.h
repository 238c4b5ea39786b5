#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "topology/topology.h"

namespace tprun {

// What `nvidia-smi -q` says, as far as it describes the machine. Unknown numbers are 0.
struct NvidiaSmiQuery {
  struct Gpu {
    int line = 0;
    std::string bus_id;  // normal form
    std::string name, uuid, pci_id;
    std::string mig;  // as DeviceInfo::mig
    int minor_number = -1;
    int generation_max = 0, generation_now = 0, width_max = 0, width_now = 0;
    int64_t memory_bytes = 0, available_bytes = 0;  // frame buffer, not BAR1
    bool is_busy = false;                           // performance state P0
    std::vector<DeviceProcess> processes;
  };
  std::string driver, cuda;
  int attached_gpus = 0;  // more than `gpus` when only some were asked for (-i)
  std::vector<Gpu> gpus;
};

// InvalidArgument gives `path`, line and reason.
absl::StatusOr<NvidiaSmiQuery> ParseNvidiaSmiQuery(const std::string& text,
                                                   const std::string& path);

}  // namespace tprun
