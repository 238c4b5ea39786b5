#include "topology/nvml_health.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "topology/nvml_card.h"

namespace tprun {
namespace {

int ReadNumber(nvml::Return (*function)(nvml::Device, unsigned*), nvml::Device device) {
  unsigned value = 0;
  if (function == nullptr || function(device, &value) != nvml::kSuccess) return -1;
  return static_cast<int>(std::min(value, 1024u));
}

int ReadNumber(nvml::Return (*function)(nvml::Device, int*), nvml::Device device) {
  int value = 0;
  if (function == nullptr || function(device, &value) != nvml::kSuccess) return -1;
  return value;
}

void ReadErrors(const NvmlApi& api, nvml::Device device, GpuHealth& health) {
  constexpr int kUncorrected = 1, kSinceDriverStart = 0;
  unsigned long long errors = 0;
  if (api.EccErrors != nullptr &&
      api.EccErrors(device, kUncorrected, kSinceDriverStart, &errors) == nvml::kSuccess) {
    health.uncorrected_ecc_errors = static_cast<int64_t>(
        std::min<unsigned long long>(errors, std::numeric_limits<int64_t>::max()));
  }
  unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
  if (api.RemappedRows != nullptr &&
      api.RemappedRows(device, &corrected, &uncorrected, &pending, &failed) == nvml::kSuccess) {
    health.remapped_rows_pending = static_cast<int>(pending);
    health.remapped_rows_failed = static_cast<int>(failed);
  }
  health.retired_pages_pending = ReadNumber(api.RetiredPagesPending, device);
}

void ReadThrottle(const NvmlApi& api, nvml::Device device, GpuHealth& health) {
  static constexpr std::array<std::pair<unsigned long long, const char*>, 4> kCauses = {{
      {nvml::kThrottleHardware, "hardware slowdown"},
      {nvml::kThrottleSoftwareThermal, "temperature (driver)"},
      {nvml::kThrottleHardwareThermal, "temperature (hardware)"},
      {nvml::kThrottlePowerBrake, "power brake of the power supply"},
  }};
  unsigned long long bits = 0;
  if (api.ThrottleReasons == nullptr || api.ThrottleReasons(device, &bits) != nvml::kSuccess) {
    return;
  }
  for (const auto& [bit, cause] : kCauses) {
    if ((bits & bit) != 0) health.throttle_causes.push_back(cause);
  }
}

GpuHealth ReadHealth(const NvmlApi& api, nvml::Device device) {
  GpuHealth health;
  std::array<char, 96> name = {};
  if (api.Name(device, name.data(), name.size() - 1) == nvml::kSuccess) health.name = name.data();
  nvml::PciInfo pci = {};
  if (api.PciInfo(device, &pci) == nvml::kSuccess) health.pci_bus_id = PciBusId(pci);
  health.pcie_generation_now = ReadNumber(api.CurrentPcieGeneration, device);
  health.pcie_generation_max = ReadNumber(api.MaxPcieGeneration, device);
  health.pcie_generation_card = ReadNumber(api.CardMaxPcieGeneration, device);
  health.pcie_width_now = ReadNumber(api.CurrentPcieWidth, device);
  health.pcie_width_max = ReadNumber(api.MaxPcieWidth, device);
  health.performance_state = ReadNumber(api.PerformanceState, device);
  health.persistence_mode = ReadNumber(api.PersistenceMode, device);
  ReadErrors(api, device, health);
  ReadThrottle(api, device, health);
  nvml::FabricInfo fabric = {};
  if (api.Fabric != nullptr && api.Fabric(device, &fabric) == nvml::kSuccess) {
    health.fabric_state = fabric.state;
  }
  return health;
}

}  // namespace

std::vector<GpuHealth> ReadGpuHealth(const GpuSource& source) {
  std::vector<GpuHealth> cards;
  const absl::StatusOr<NvmlApi> api = LoadNvml(source.nvml_library);
  unsigned count = 0;
  if (!api.ok() || api->DeviceCount(&count) != nvml::kSuccess) return cards;
  for (unsigned i = 0; i < std::min(count, 256u); ++i) {
    nvml::Device device = nullptr;
    if (api->DeviceHandle(i, &device) == nvml::kSuccess) cards.push_back(ReadHealth(*api, device));
  }
  return cards;
}

}  // namespace tprun
