#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "topology/detect_gpus.h"

namespace tprun {

// What may be wrong with a card, as NVML tells; -1 (texts: "") where it does not.
struct GpuHealth {
  std::string name;
  std::string pci_bus_id;
  int pcie_generation_now = -1;   // falls on an idle card
  int pcie_generation_max = -1;   // of card and slot together
  int pcie_generation_card = -1;  // of the card alone
  int pcie_width_now = -1;
  int pcie_width_max = -1;
  int performance_state = -1;                // 0: full speed, 8 and more: idle
  int64_t uncorrected_ecc_errors = -1;       // since the driver started
  int remapped_rows_pending = -1;            // 1: a reset is needed
  int remapped_rows_failed = -1;             // 1: the card has no spare rows left
  int retired_pages_pending = -1;            // likewise on cards before Ampere
  std::vector<std::string> throttle_causes;  // what holds the clocks down now; idle is no cause
  int fabric_state = -1;  // 0: no fabric, 1: not started, 2: in progress, 3: done
  int persistence_mode = -1;
};

// Of all cards, whatever CUDA_VISIBLE_DEVICES says; empty without a driver.
std::vector<GpuHealth> ReadGpuHealth(const GpuSource& source);

}  // namespace tprun
