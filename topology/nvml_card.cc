#include "topology/nvml_card.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "topology/cpu_list.h"
#include "topology/detect_gpus.h"
#include "topology/detect_pci.h"

namespace tprun {
namespace {

constexpr char kNvml[] = "nvml";
constexpr char kSysfs[] = "sysfs";

int64_t ToInt64(unsigned long long value) {
  return static_cast<int64_t>(
      std::min<unsigned long long>(value, std::numeric_limits<int64_t>::max()));
}

// Version 2 tells what the driver keeps for itself apart; its "free" is the honest one.
bool ReadMemory(const NvmlApi& api, nvml::Device device, DeviceInfo& gpu) {
  nvml::MemoryV2 v2 = {};
  v2.version = nvml::kMemoryV2;
  nvml::Memory v1 = {};
  if (api.MemoryInfoV2 != nullptr && api.MemoryInfoV2(device, &v2) == nvml::kSuccess) {
    gpu.memory_bytes = ToInt64(v2.total);
    gpu.available_bytes = ToInt64(v2.free);
  } else if (api.MemoryInfo(device, &v1) == nvml::kSuccess) {
    gpu.memory_bytes = ToInt64(v1.total);
    gpu.available_bytes = ToInt64(v1.free);
  } else {
    return false;
  }
  gpu.available_bytes = std::min(gpu.available_bytes, gpu.memory_bytes);
  gpu.sources["memory_bytes"] = gpu.sources["available_bytes"] = kNvml;
  return true;
}

// 0 if it does not tell.
int ReadNumber(nvml::Return (*function)(nvml::Device, unsigned*), nvml::Device device) {
  unsigned value = 0;
  if (function == nullptr || function(device, &value) != nvml::kSuccess) return 0;
  return static_cast<int>(std::min(value, 1024u));
}

void SetNumber(int value, const char* fact, const char* source, int& member, DeviceInfo& gpu) {
  if (value == 0 || member != 0) return;
  member = value;
  gpu.sources[fact] = source;
}

// An idle card lowers its generation, never its width: so the greatest generation that card and
// slot can do together (that is NVML's "max"), and the width of now.
void ReadPcie(const NvmlApi& api, nvml::Device device, DeviceInfo& gpu) {
  const int max_generation = ReadNumber(api.MaxPcieGeneration, device);
  SetNumber(max_generation, "pcie_max_generation", kNvml, gpu.pcie_max_generation, gpu);
  SetNumber(max_generation, "pcie_generation", kNvml, gpu.pcie_generation, gpu);
  SetNumber(ReadNumber(api.CurrentPcieGeneration, device), "pcie_generation", kNvml,
            gpu.pcie_generation, gpu);
  SetNumber(ReadNumber(api.MaxPcieWidth, device), "pcie_max_width", kNvml, gpu.pcie_max_width, gpu);
  SetNumber(ReadNumber(api.CurrentPcieWidth, device), "pcie_width", kNvml, gpu.pcie_width, gpu);
}

// What sysfs alone tells, and what NVML did not.
void ReadSysfs(const std::string& root, DeviceInfo& gpu) {
  PciFunction function = ReadPciFunction(root, gpu.pci_bus_id);
  gpu.numa_node = function.numa_node;
  if (gpu.numa_node >= 0) gpu.sources["numa_node"] = kSysfs;
  if (!function.host_bridge.empty()) gpu.sources["pci_bridges"] = kSysfs;
  gpu.pci_bridges = std::move(function.bridges);
  if (gpu.pci_id.empty() && !function.pci_id.empty()) {
    gpu.pci_id = function.pci_id;
    gpu.sources["pci_id"] = kSysfs;
  }
  if (gpu.cpus.empty() && !function.cpus.empty()) {
    gpu.cpus = function.cpus;
    gpu.sources["cpus"] = kSysfs;
  }
  SetNumber(function.max_generation, "pcie_generation", kSysfs, gpu.pcie_generation, gpu);
  SetNumber(function.width, "pcie_width", kSysfs, gpu.pcie_width, gpu);
  SetNumber(function.max_width, "pcie_max_width", kSysfs, gpu.pcie_max_width, gpu);
  SetNumber(gpu.pcie_max_width, "pcie_width", kNvml, gpu.pcie_width, gpu);
}

void ReadCpus(const NvmlApi& api, nvml::Device device, DeviceInfo& gpu) {
  constexpr size_t kCpus = 4096, kBits = 8 * sizeof(unsigned long);
  std::vector<unsigned long> words(kCpus / kBits);
  if (api.CpuAffinity == nullptr || api.CpuAffinity(device, static_cast<unsigned>(words.size()),
                                                    words.data()) != nvml::kSuccess) {
    return;
  }
  std::vector<int> cpus;
  for (size_t i = 0; i < kCpus; ++i) {
    if (words[i / kBits] >> i % kBits & 1) cpus.push_back(static_cast<int>(i));
  }
  gpu.cpus = FormatCpuList(cpus);
  if (!gpu.cpus.empty()) gpu.sources["cpus"] = kNvml;
}

void ReadProcesses(const NvmlApi& api, nvml::Device device, DeviceInfo& gpu) {
  constexpr size_t kMost = 4096;
  std::map<int64_t, int64_t> bytes;  // by pid; a process may both compute and draw
  for (auto list : {api.ComputeProcesses, api.GraphicsProcesses}) {
    if (list == nullptr) continue;
    // Twice the room: one driver series (535.43 to 535.86) wrote longer entries than it declared.
    std::vector<nvml::ProcessInfo> room(2 * kMost);
    unsigned count = kMost;
    if (list(device, &count, room.data()) != nvml::kSuccess) continue;
    gpu.sources["processes"] = kNvml;
    for (size_t i = 0; i < std::min<size_t>(count, kMost); ++i) {
      const int64_t used =
          room[i].used_memory == nvml::kNotAvailable ? 0 : ToInt64(room[i].used_memory);
      if (room[i].pid == 0 || used > gpu.memory_bytes) continue;
      bytes[room[i].pid] = std::max(bytes[room[i].pid], used);
    }
  }
  for (const auto& [pid, used] : bytes) {
    std::array<char, 256> name = {};
    if (api.ProcessName == nullptr || api.ProcessName(static_cast<unsigned>(pid), name.data(),
                                                      name.size() - 1) != nvml::kSuccess) {
      name[0] = '\0';
    }
    gpu.processes.push_back({pid, name.data(), used});
  }
}

void ReadNvlinks(const NvmlApi& api, const GpuFacts* facts, NvmlCard& card) {
  if (api.NvLinkState == nullptr || api.NvLinkRemotePci == nullptr) return;
  for (unsigned link = 0; link < nvml::kMaxLinks; ++link) {
    int active = 0;
    if (api.NvLinkState(card.handle, link, &active) != nvml::kSuccess || active != 1) continue;
    unsigned version = 0;
    if (api.NvLinkVersion != nullptr) api.NvLinkVersion(card.handle, link, &version);
    double rate = NvlinkBandwidthPerLink(version, card.info.compute_capability);
    if (facts != nullptr && facts->nvlink_links > 0) {
      rate = facts->nvlink_bandwidth_bytes_per_s / facts->nvlink_links;
    }
    int type = nvml::kRemoteGpu;
    if (api.NvLinkRemoteType != nullptr) api.NvLinkRemoteType(card.handle, link, &type);
    nvml::PciInfo remote = {};
    NvmlCard::Ends* ends = nullptr;
    if (type == nvml::kRemoteSwitch) {
      ends = &card.to_switch;
    } else if (api.NvLinkRemotePci(card.handle, link, &remote) == nvml::kSuccess) {
      ends = &card.peers[PciBusId(remote)];
    }
    ++card.info.nvlink_count;
    card.info.nvlink_bandwidth_bytes_per_s = rate;
    if (ends == nullptr) continue;
    ++ends->links;
    ends->bandwidth_bytes_per_s += rate;
  }
  if (card.info.nvlink_count == 0) return;
  card.info.sources["nvlink_count"] = kNvml;
  card.info.sources["nvlink_bandwidth_bytes_per_s"] = facts != nullptr ? "gpus.yaml" : kNvml;
}

// "NVIDIA A100-SXM4-40GB MIG 1g.5gb" -> "1g.5gb".
std::string MigProfile(const std::string& name) {
  const size_t at = name.find("MIG ");
  return at == std::string::npos ? "on" : name.substr(at + 4);
}

// What the card is when only this instance of it is used. It has the share of the card's memory
// slices (there are eight) in its bandwidth.
void AddMigInstance(const NvmlApi& api, nvml::Device device, NvmlCard& card) {
  std::array<char, 96> name = {}, uuid = {};
  DeviceInfo instance = card.info;
  instance.mig_instances.clear();
  instance.processes.clear();
  if (api.Name(device, name.data(), name.size() - 1) != nvml::kSuccess) return;
  if (api.Uuid(device, uuid.data(), uuid.size() - 1) != nvml::kSuccess) return;
  if (!ReadMemory(api, device, instance)) return;
  instance.uuid = uuid.data();
  instance.mig = MigProfile(name.data());
  ReadProcesses(api, device, instance);
  const double share = static_cast<double>(instance.memory_bytes) /
                       static_cast<double>(std::max<int64_t>(1, card.info.memory_bytes));
  instance.memory_bandwidth_bytes_per_s *= std::clamp(std::round(share * 8), 1.0, 8.0) / 8;
  if (instance.memory_bandwidth_bytes_per_s > 0) {
    instance.sources["memory_bandwidth_bytes_per_s"] = "estimate from the share of the memory";
  }
  card.info.mig_instances.push_back({instance.mig, instance.uuid, instance.memory_bytes});
  card.instances.push_back(std::move(instance));
}

void ReadMig(const NvmlApi& api, NvmlCard& card, std::vector<std::string>& notes) {
  unsigned current = 0, pending = 0;
  if (api.MigMode == nullptr || api.MigMode(card.handle, &current, &pending) != nvml::kSuccess) {
    return;
  }
  card.info.mig = current == 1 ? "on" : "off";
  card.info.sources["mig"] = kNvml;
  if (current != 1) return;
  const int most = std::min(ReadNumber(api.MaxMigDevices, card.handle), 64);
  for (int i = 0; i < most && api.MigDevice != nullptr; ++i) {
    nvml::Device device = nullptr;
    if (api.MigDevice(card.handle, static_cast<unsigned>(i), &device) != nvml::kSuccess) continue;
    AddMigInstance(api, device, card);
  }
  if (!card.instances.empty()) {
    card.info.sources["mig_instances"] = kNvml;
    return;
  }
  notes.push_back(absl::StrCat(card.info.name, " at ", card.info.pci_bus_id,
                               " is in MIG mode and no instance can be seen: CUDA cannot use it; "
                               "see `nvidia-smi mig -lgi`"));
}

nvml::Return ReadIdentity(const NvmlApi& api, unsigned index, NvmlCard& card) {
  std::array<char, 96> name = {}, uuid = {};
  nvml::PciInfo pci = {};
  nvml::Return code = api.DeviceHandle(index, &card.handle);
  if (code == nvml::kSuccess) code = api.Name(card.handle, name.data(), name.size() - 1);
  if (code == nvml::kSuccess) code = api.Uuid(card.handle, uuid.data(), uuid.size() - 1);
  if (code == nvml::kSuccess) code = api.PciInfo(card.handle, &pci);
  if (code != nvml::kSuccess) return code;
  DeviceInfo& gpu = card.info;
  gpu.kind = DeviceKind::kGpu;
  gpu.name = name.data();
  gpu.uuid = uuid.data();
  gpu.pci_bus_id = PciBusId(pci);
  for (const char* fact : {"name", "uuid", "pci_bus_id"}) gpu.sources[fact] = kNvml;
  if (pci.pci_device_id != 0) {  // device in the upper half, vendor in the lower
    gpu.pci_id = absl::StrFormat("%04x:%04x", pci.pci_device_id & 0xffff, pci.pci_device_id >> 16);
    gpu.sources["pci_id"] = kNvml;
  }
  return code;
}

}  // namespace

std::string PciBusId(const nvml::PciInfo& pci) {
  return absl::StrFormat("%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
}

bool ReadNvmlCard(const NvmlApi& api, unsigned index, const std::string& sysfs_root,
                  const GpuCatalogue& catalogue, NvmlCard& card, std::vector<std::string>& notes) {
  const nvml::Return code = ReadIdentity(api, index, card);
  if (code != nvml::kSuccess) {
    notes.push_back(absl::StrCat("GPU ", index, " is left out: ", api.Describe(code)));
    return false;
  }
  DeviceInfo& gpu = card.info;
  if (!ReadMemory(api, card.handle, gpu)) {
    notes.push_back(
        absl::StrCat(gpu.name, ": NVML does not tell its memory (shared with the CPU?)"));
  }
  int major = 0, minor = 0;
  if (api.ComputeCapability(card.handle, &major, &minor) == nvml::kSuccess) {
    gpu.compute_capability = absl::StrCat(major, ".", minor);
    gpu.sources["compute_capability"] = kNvml;
  }
  const GpuFacts* facts = catalogue.Find(gpu.name, gpu.memory_bytes);
  if (facts != nullptr) {  // a MIG instance has a share of it
    gpu.memory_bandwidth_bytes_per_s = facts->memory_bandwidth_bytes_per_s;
    gpu.sources["memory_bandwidth_bytes_per_s"] = "gpus.yaml";
  }
  ReadPcie(api, card.handle, gpu);
  ReadCpus(api, card.handle, gpu);
  ReadSysfs(sysfs_root, gpu);
  if (gpu.pcie_width < gpu.pcie_max_width) {
    notes.push_back(absl::StrCat(gpu.name, " at ", gpu.pci_bus_id, " runs on ", gpu.pcie_width,
                                 " of its ", gpu.pcie_max_width, " PCIe lanes"));
  }
  ReadProcesses(api, card.handle, gpu);
  ReadNvlinks(api, facts, card);
  nvml::C2cMode c2c = {};
  card.c2c = api.C2cModeInfo != nullptr && api.C2cModeInfo(card.handle, &c2c) == nvml::kSuccess &&
             c2c.enabled == 1;
  ReadMig(api, card, notes);
  return true;
}

}  // namespace tprun
