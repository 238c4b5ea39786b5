#pragma once

#include <string>
#include <vector>

#include "topology/text_view.h"

namespace tprun {

struct ExchangeGroup {
  std::string what;             // "NVLink island", "all GPUs", a host's label, "all hosts"
  std::vector<DeviceRef> ring;  // in the order of BestRing
};

// The groups of which an all-reduce is told: islands, hosts, everything; no group twice. Of hosts
// that are alike the first; "all hosts" is left out above a million devices.
std::vector<ExchangeGroup> ExchangeGroups(const TextView& view);

}  // namespace tprun
