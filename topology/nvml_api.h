#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tprun {

// The part of NVIDIA's management library (NVML) we call, declared here so that neither its header
// nor the library is needed to build. Names, layouts and numbers are NVML's stable C ABI
// (https://docs.nvidia.com/deploy/nvml-api/).
namespace nvml {

using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr Return kInsufficientSize = 7;
// Links are asked for until one does not exist; NVML_NVLINK_MAX_LINKS is 18 today.
inline constexpr int kMaxLinks = 36;

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

// nvmlGpuTopologyLevel_t
inline constexpr int kAncestorInternal = 0;  // on one board
inline constexpr int kAncestorSingle = 10;
inline constexpr int kAncestorMultiple = 20;
inline constexpr int kAncestorHostBridge = 30;
inline constexpr int kAncestorNode = 40;
inline constexpr int kAncestorSystem = 50;

// nvmlGpuP2PCapsIndex_t
inline constexpr int kP2pRead = 0;
inline constexpr int kP2pWrite = 1;
inline constexpr int kP2pNvlink = 2;

// nvmlGpuP2PStatus_t
inline constexpr int kP2pOk = 0;
inline constexpr int kP2pChipset = 1;
inline constexpr int kP2pGpu = 2;
inline constexpr int kP2pIoHub = 3;
inline constexpr int kP2pRegistryKey = 4;
inline constexpr int kP2pNotSupported = 5;

struct ProcessInfo {  // nvmlProcessInfo_t of the _v2 and _v3 calls
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance;
  unsigned compute_instance;
};
inline constexpr unsigned long long kNotAvailable = ~0ull;

// nvmlClocksEventReasons: what holds the clocks down, as bits.
inline constexpr unsigned long long kThrottleHardware = 0x8;
inline constexpr unsigned long long kThrottleSoftwareThermal = 0x20;
inline constexpr unsigned long long kThrottleHardwareThermal = 0x40;
inline constexpr unsigned long long kThrottlePowerBrake = 0x80;

struct C2cMode {  // nvmlC2cModeInfo_v1_t
  unsigned enabled;
};

struct FabricInfo {  // nvmlGpuFabricInfo_t
  unsigned char cluster[16];
  Return status;
  unsigned clique;
  unsigned char state;  // 0 no fabric, 1 not started, 2 in progress, 3 completed
};

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
  nvml::Return (*CommonAncestor)(nvml::Device, nvml::Device, int*) = nullptr;
  nvml::Return (*P2pStatus)(nvml::Device, nvml::Device, int index, int* status) = nullptr;
  nvml::Return (*CpuAffinity)(nvml::Device, unsigned words, unsigned long* set) = nullptr;
  nvml::Return (*C2cModeInfo)(nvml::Device, nvml::C2cMode*) = nullptr;
  nvml::Return (*MaxMigDevices)(nvml::Device, unsigned*) = nullptr;
  nvml::Return (*MigDevice)(nvml::Device, unsigned, nvml::Device*) = nullptr;
  // Of the _v3, else the _v2 calls.
  nvml::Return (*ComputeProcesses)(nvml::Device, unsigned* count, nvml::ProcessInfo*) = nullptr;
  nvml::Return (*GraphicsProcesses)(nvml::Device, unsigned* count, nvml::ProcessInfo*) = nullptr;
  nvml::Return (*ProcessName)(unsigned pid, char*, unsigned) = nullptr;
  nvml::Return (*DriverVersion)(char*, unsigned) = nullptr;
  nvml::Return (*CudaVersion)(int*) = nullptr;  // 12040: 12.4
  nvml::Return (*NvmlVersion)(char*, unsigned) = nullptr;
  // What nvml_health.cc asks for.
  nvml::Return (*CardMaxPcieGeneration)(nvml::Device, unsigned*) = nullptr;
  nvml::Return (*PerformanceState)(nvml::Device, int*) = nullptr;
  nvml::Return (*EccErrors)(nvml::Device, int type, int counter, unsigned long long*) = nullptr;
  nvml::Return (*RemappedRows)(nvml::Device, unsigned* corrected, unsigned* uncorrected,
                               unsigned* pending, unsigned* failed) = nullptr;
  nvml::Return (*RetiredPagesPending)(nvml::Device, int*) = nullptr;
  nvml::Return (*ThrottleReasons)(nvml::Device, unsigned long long*) = nullptr;
  nvml::Return (*Fabric)(nvml::Device, nvml::FabricInfo*) = nullptr;
  nvml::Return (*PersistenceMode)(nvml::Device, int*) = nullptr;

  // What this driver lacks and others have had for years: "nvmlDeviceGetP2PStatus".
  std::vector<std::string> missing;

  std::shared_ptr<void> library;  // keeps the functions callable

  std::string Describe(nvml::Return code) const;  // NVML's words for an error

  std::string Text(nvml::Return (*function)(char*, unsigned)) const;  // "" if it does not tell
};

// NotFound when the library is not there, FailedPrecondition when it lacks a needed function or
// does not start. On success NVML is initialised; the last copy of the result shuts it down.
absl::StatusOr<NvmlApi> LoadNvml(const std::string& library_path);

}  // namespace tprun
