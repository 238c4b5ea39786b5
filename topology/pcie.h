#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

struct PcieLink {
  int generation = 0;
  int width = 0;  // lanes
};

// "4x16": generation x lanes. InvalidArgument names the form.
absl::StatusOr<PcieLink> ParsePcie(absl::string_view text);

// What a PCIe link carries per direction (nominal, after line coding); 0 for an unknown generation.
double PcieBandwidth(int generation, int width);

}  // namespace tprun
