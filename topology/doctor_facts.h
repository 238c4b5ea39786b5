#pragma once

#include <string>
#include <vector>

#include "topology/detect_gpus.h"
#include "topology/doctor.h"

namespace tprun {

// What this process can learn of its machine. `root` is put in front of /proc, /sys and /dev (tests
// have their own); limits and environment are always the process's own. `gpu_bus_ids`: whose
// bridges are looked at.
SystemFacts ReadSystemFacts(const std::vector<std::string>& gpu_bus_ids,
                            const std::string& root = "");

DriverFacts ReadDriverFacts(const GpuSource& source);

}  // namespace tprun
