#include "topology/nvml_api.h"

#include <dlfcn.h>

#include <array>
#include <initializer_list>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

template <typename Function>
bool Load(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// The name of the first function that must be there and is not, nullptr if all are.
const char* LoadNeeded(void* library, NvmlApi& api) {
  if (!Load(library, "nvmlInit_v2", api.Init)) return "nvmlInit_v2";
  if (!Load(library, "nvmlShutdown", api.Shutdown)) return "nvmlShutdown";
  if (!Load(library, "nvmlDeviceGetCount_v2", api.DeviceCount)) return "nvmlDeviceGetCount_v2";
  if (!Load(library, "nvmlDeviceGetHandleByIndex_v2", api.DeviceHandle))
    return "nvmlDeviceGetHandleByIndex_v2";
  if (!Load(library, "nvmlDeviceGetName", api.Name)) return "nvmlDeviceGetName";
  if (!Load(library, "nvmlDeviceGetUUID", api.Uuid)) return "nvmlDeviceGetUUID";
  if (!Load(library, "nvmlDeviceGetPciInfo_v3", api.PciInfo)) return "nvmlDeviceGetPciInfo_v3";
  if (!Load(library, "nvmlDeviceGetMemoryInfo", api.MemoryInfo)) return "nvmlDeviceGetMemoryInfo";
  if (!Load(library, "nvmlDeviceGetCudaComputeCapability", api.ComputeCapability))
    return "nvmlDeviceGetCudaComputeCapability";
  return nullptr;
}

// The first of several names that is there.
template <typename Function>
bool LoadFirst(void* library, std::initializer_list<const char*> names, Function& function) {
  for (const char* name : names) {
    if (Load(library, name, function)) return true;
  }
  return false;
}

// What every driver of the last years has. What is missing is told.
void LoadUsual(void* library, NvmlApi& api) {
  const auto load = [&](std::initializer_list<const char*> names, auto& function) {
    if (!LoadFirst(library, names, function)) api.missing.push_back(*names.begin());
  };
  load({"nvmlErrorString"}, api.ErrorString);
  load({"nvmlDeviceGetCurrPcieLinkGeneration"}, api.CurrentPcieGeneration);
  load({"nvmlDeviceGetMaxPcieLinkGeneration"}, api.MaxPcieGeneration);
  load({"nvmlDeviceGetCurrPcieLinkWidth"}, api.CurrentPcieWidth);
  load({"nvmlDeviceGetMaxPcieLinkWidth"}, api.MaxPcieWidth);
  load({"nvmlDeviceGetNvLinkState"}, api.NvLinkState);
  load({"nvmlDeviceGetNvLinkVersion"}, api.NvLinkVersion);
  load({"nvmlDeviceGetNvLinkRemotePciInfo_v2"}, api.NvLinkRemotePci);
  load({"nvmlDeviceGetTopologyCommonAncestor"}, api.CommonAncestor);
  load({"nvmlDeviceGetP2PStatus"}, api.P2pStatus);
  load({"nvmlDeviceGetCpuAffinity"}, api.CpuAffinity);
  load({"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"},
       api.ComputeProcesses);
  load({"nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"},
       api.GraphicsProcesses);
  load({"nvmlSystemGetProcessName"}, api.ProcessName);
  load({"nvmlSystemGetDriverVersion"}, api.DriverVersion);
  load({"nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"}, api.CudaVersion);
  load({"nvmlSystemGetNVMLVersion"}, api.NvmlVersion);
}

// What came with newer cards: an older driver does without, and loses nothing.
void LoadNewer(void* library, NvmlApi& api) {
  Load(library, "nvmlDeviceGetMemoryInfo_v2", api.MemoryInfoV2);
  Load(library, "nvmlDeviceGetNvLinkRemoteDeviceType", api.NvLinkRemoteType);
  Load(library, "nvmlDeviceGetMigMode", api.MigMode);
  Load(library, "nvmlDeviceGetMaxMigDeviceCount", api.MaxMigDevices);
  Load(library, "nvmlDeviceGetMigDeviceHandleByIndex", api.MigDevice);
  Load(library, "nvmlDeviceGetC2cModeInfoV", api.C2cModeInfo);
  Load(library, "nvmlDeviceGetGpuMaxPcieLinkGeneration", api.CardMaxPcieGeneration);
  Load(library, "nvmlDeviceGetPerformanceState", api.PerformanceState);
  Load(library, "nvmlDeviceGetTotalEccErrors", api.EccErrors);
  Load(library, "nvmlDeviceGetRemappedRows", api.RemappedRows);
  Load(library, "nvmlDeviceGetRetiredPagesPendingStatus", api.RetiredPagesPending);
  LoadFirst(library,
            {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"},
            api.ThrottleReasons);
  Load(library, "nvmlDeviceGetGpuFabricInfo", api.Fabric);
  Load(library, "nvmlDeviceGetPersistenceMode", api.PersistenceMode);
}

}  // namespace

std::string NvmlApi::Describe(nvml::Return code) const {
  const char* text = ErrorString != nullptr ? ErrorString(code) : nullptr;
  return text != nullptr ? text : absl::StrCat("NVML error ", code);
}

std::string NvmlApi::Text(nvml::Return (*function)(char*, unsigned)) const {
  std::array<char, 96> text = {};
  if (function == nullptr || function(text.data(), text.size() - 1) != nvml::kSuccess) return "";
  return text.data();
}

absl::StatusOr<NvmlApi> LoadNvml(const std::string& library_path) {
  void* library = dlopen(library_path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return absl::NotFoundError(why != nullptr ? why : library_path);
  }
  NvmlApi api;
  api.library = std::shared_ptr<void>(library, [](void* handle) { dlclose(handle); });
  if (const char* missing = LoadNeeded(library, api)) {
    return absl::FailedPreconditionError(
        absl::StrCat(library_path, " has no ", missing, "; update the NVIDIA driver"));
  }
  LoadUsual(library, api);
  LoadNewer(library, api);
  const nvml::Return code = api.Init();
  if (code != nvml::kSuccess) {
    return absl::FailedPreconditionError(
        absl::StrCat("NVML does not start: ", api.Describe(code), "; does nvidia-smi work?"));
  }
  const auto shutdown = api.Shutdown;
  api.library = std::shared_ptr<void>(library, [shutdown, keep = api.library](void*) mutable {
    shutdown();
    keep.reset();
  });
  return api;
}

}  // namespace tprun
