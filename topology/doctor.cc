#include "topology/doctor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "topology/doctor_checks.h"

namespace tprun {

Finding Ok(std::string check, std::string subject, std::string found) {
  return {std::move(check), std::move(subject), Severity::kOk, std::move(found), ""};
}

Finding Warning(std::string check, std::string subject, std::string found, std::string remedy) {
  return {std::move(check), std::move(subject), Severity::kWarning, std::move(found),
          std::move(remedy)};
}

Finding Problem(std::string check, std::string subject, std::string found, std::string remedy) {
  return {std::move(check), std::move(subject), Severity::kProblem, std::move(found),
          std::move(remedy)};
}

std::vector<const DeviceInfo*> GpusOf(const DoctorFacts& facts) {
  std::vector<const DeviceInfo*> gpus;
  for (const DeviceInfo& device : facts.topology.devices) {
    if (device.kind == DeviceKind::kGpu) gpus.push_back(&device);
  }
  return gpus;
}

std::string GpuTitle(const DoctorFacts& facts, const DeviceInfo& gpu) {
  const int index = static_cast<int>(&gpu - facts.topology.devices.data());
  return absl::StrCat(QualifiedDeviceId(facts.topology, index), " (", gpu.name, ")");
}

std::string CardTitle(const DoctorFacts& facts, const GpuHealth& card) {
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    if (gpu->pci_bus_id == card.pci_bus_id) return GpuTitle(facts, *gpu);
  }
  return absl::StrCat(card.pci_bus_id, " (", card.name, ")");
}

std::vector<Finding> Diagnose(const DoctorFacts& facts) {
  std::vector<Finding> findings;
  for (const auto check :
       {CheckDriver,    CheckCudaModule, CheckMpi,       CheckVisibleDevices, CheckNcclEnvironment,
        CheckGpuMemory, CheckGpuErrors,  CheckGpuClocks, CheckPersistence,    CheckMig,
        CheckPcieLinks, CheckNvlinks,    CheckFabric,    CheckPeerAccess,     CheckPeerRoute,
        CheckNics,      CheckHostMemory, CheckCpus,      CheckNumaBinding,    CheckSharedMemory,
        CheckHugepages, CheckLimits}) {
    for (Finding& finding : check(facts)) findings.push_back(std::move(finding));
  }
  return findings;
}

absl::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kWarning:
      return "warning";
    default:
      return "problem";
  }
}

Severity WorstOf(const std::vector<Finding>& findings) {
  Severity worst = Severity::kOk;
  for (const Finding& finding : findings) worst = std::max(worst, finding.severity);
  return worst;
}

}  // namespace tprun
