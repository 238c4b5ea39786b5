#include "topology/nvml_api.h"

#include <dlfcn.h>

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

void LoadOptional(void* library, NvmlApi& api) {
  Load(library, "nvmlErrorString", api.ErrorString);
  Load(library, "nvmlDeviceGetMemoryInfo_v2", api.MemoryInfoV2);
  Load(library, "nvmlDeviceGetCurrPcieLinkGeneration", api.CurrentPcieGeneration);
  Load(library, "nvmlDeviceGetMaxPcieLinkGeneration", api.MaxPcieGeneration);
  Load(library, "nvmlDeviceGetCurrPcieLinkWidth", api.CurrentPcieWidth);
  Load(library, "nvmlDeviceGetMaxPcieLinkWidth", api.MaxPcieWidth);
  Load(library, "nvmlDeviceGetMigMode", api.MigMode);
  Load(library, "nvmlDeviceGetNvLinkState", api.NvLinkState);
  Load(library, "nvmlDeviceGetNvLinkVersion", api.NvLinkVersion);
  Load(library, "nvmlDeviceGetNvLinkRemotePciInfo_v2", api.NvLinkRemotePci);
  Load(library, "nvmlDeviceGetNvLinkRemoteDeviceType", api.NvLinkRemoteType);
}

}  // namespace

std::string NvmlApi::Describe(nvml::Return code) const {
  const char* text = ErrorString != nullptr ? ErrorString(code) : nullptr;
  return text != nullptr ? text : absl::StrCat("NVML error ", code);
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
  LoadOptional(library, api);
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
