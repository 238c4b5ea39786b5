#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tprun {

// The part of NVIDIA's management library (NVML) we call, declared here so that neither its header
// nor the library is needed to build. Names, layouts and numbers are NVML's stable C ABI
// (https://docs.nvidia.com/deploy/nvml-api/).
namespace nvml {

using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr int kMaxLinks = 18;  // NVML_NVLINK_MAX_LINKS

struct DeviceHandle;
using Device = DeviceHandle*;

struct PciInfo {  // nvmlPciInfo_t, version 3 of the calls
  char bus_id_legacy[16];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned pci_device_id;
  unsigned pci_subsystem_id;
  char bus_id[32];
};

struct Memory {  // nvmlMemory_t
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};

struct MemoryV2 {  // nvmlMemory_v2_t
  unsigned version;
  unsigned long long total;
  unsigned long long reserved;
  unsigned long long free;
  unsigned long long used;
};
inline constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | (2u << 24);

// nvmlIntNvLinkDeviceType_t
inline constexpr int kRemoteGpu = 0;
inline constexpr int kRemoteSwitch = 2;

}  // namespace nvml

// The functions, loaded at run time. Those an older driver may lack are nullptr then.
struct NvmlApi {
  nvml::Return (*Init)() = nullptr;
  nvml::Return (*Shutdown)() = nullptr;
  const char* (*ErrorString)(nvml::Return) = nullptr;
  nvml::Return (*DeviceCount)(unsigned*) = nullptr;
  nvml::Return (*DeviceHandle)(unsigned, nvml::Device*) = nullptr;
  nvml::Return (*Name)(nvml::Device, char*, unsigned) = nullptr;
  nvml::Return (*Uuid)(nvml::Device, char*, unsigned) = nullptr;
  nvml::Return (*PciInfo)(nvml::Device, nvml::PciInfo*) = nullptr;
  nvml::Return (*MemoryInfo)(nvml::Device, nvml::Memory*) = nullptr;
  nvml::Return (*ComputeCapability)(nvml::Device, int*, int*) = nullptr;
  // From here on: may be absent.
  nvml::Return (*MemoryInfoV2)(nvml::Device, nvml::MemoryV2*) = nullptr;
  nvml::Return (*CurrentPcieGeneration)(nvml::Device, unsigned*) = nullptr;
  nvml::Return (*MaxPcieGeneration)(nvml::Device, unsigned*) = nullptr;
  nvml::Return (*CurrentPcieWidth)(nvml::Device, unsigned*) = nullptr;
  nvml::Return (*MaxPcieWidth)(nvml::Device, unsigned*) = nullptr;
  nvml::Return (*MigMode)(nvml::Device, unsigned*, unsigned*) = nullptr;
  nvml::Return (*NvLinkState)(nvml::Device, unsigned, int*) = nullptr;
  nvml::Return (*NvLinkVersion)(nvml::Device, unsigned, unsigned*) = nullptr;
  nvml::Return (*NvLinkRemotePci)(nvml::Device, unsigned, nvml::PciInfo*) = nullptr;
  nvml::Return (*NvLinkRemoteType)(nvml::Device, unsigned, int*) = nullptr;

  std::shared_ptr<void> library;  // keeps the functions callable

  std::string Describe(nvml::Return code) const;  // NVML's words for an error
};

// NotFound when the library is not there, FailedPrecondition when it lacks a needed function or
// does not start. On success NVML is initialised; the last copy of the result shuts it down.
absl::StatusOr<NvmlApi> LoadNvml(const std::string& library_path);

}  // namespace tprun
