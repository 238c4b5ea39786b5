#include "topology/detect_host.h"

#include <hwloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cgroup.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

struct HwlocDeleter {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
using HwlocTopology = std::unique_ptr<hwloc_topology, HwlocDeleter>;

struct BitmapDeleter {
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, BitmapDeleter>;

absl::StatusOr<HwlocTopology> LoadHwloc() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) {
    return absl::InternalError("hwloc could not be initialised");
  }
  HwlocTopology topology(raw);
  if (hwloc_topology_load(topology.get()) != 0) {
    return absl::InternalError(
        absl::StrCat("hwloc could not read this machine: ", std::strerror(errno)));
  }
  return topology;
}

// The hardware threads this process is bound to.
Bitmap AllowedCpus(hwloc_topology* topology) {
  Bitmap allowed(hwloc_bitmap_alloc());
  if (hwloc_get_cpubind(topology, allowed.get(), HWLOC_CPUBIND_PROCESS) != 0 ||
      hwloc_bitmap_iszero(allowed.get())) {
    hwloc_bitmap_copy(allowed.get(), hwloc_topology_get_allowed_cpuset(topology));
  }
  hwloc_bitmap_and(allowed.get(), allowed.get(), hwloc_topology_get_allowed_cpuset(topology));
  return allowed;
}

// Objects of a type with at least one allowed hardware thread.
int CountAllowed(hwloc_topology* topology, hwloc_obj_type_t type, hwloc_const_bitmap_t allowed) {
  int count = 0;
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(topology, type, object)) != nullptr;) {
    if (object->cpuset != nullptr && hwloc_bitmap_intersects(object->cpuset, allowed)) ++count;
  }
  return count;
}

std::string CpuList(hwloc_const_bitmap_t cpus) {
  char* text = nullptr;
  if (cpus == nullptr || hwloc_bitmap_list_asprintf(&text, cpus) < 0) return "";
  const std::string list = text;
  std::free(text);
  return list;
}

// Memory of a node the kernel could give now. A node has no MemAvailable of its own; free pages,
// page cache and reclaimable slab come close.
int64_t NodeAvailableBytes(const std::string& root, int id) {
  const std::string text =
      ReadPseudoFile(absl::StrCat(root, "/sys/devices/system/node/node", id, "/meminfo"));
  int64_t available = 0;
  for (const char* key : {"MemFree", "Active(file)", "Inactive(file)", "SReclaimable"}) {
    available += std::max<int64_t>(0, PseudoFileField(text, key));
  }
  return available;
}

std::vector<NumaNode> ReadNumaNodes(hwloc_topology* topology, const std::string& root) {
  std::vector<NumaNode> nodes;
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, object)) != nullptr;) {
    NumaNode node;
    node.id = static_cast<int>(object->os_index);
    node.memory_bytes = static_cast<int64_t>(object->attr->numanode.local_memory);
    node.available_bytes = std::min(NodeAvailableBytes(root, node.id), node.memory_bytes);
    node.cpus = CpuList(object->cpuset);
    const hwloc_obj_t package = node.cpus.empty()
                                    ? nullptr
                                    : hwloc_get_next_obj_covering_cpuset_by_type(
                                          topology, object->cpuset, HWLOC_OBJ_PACKAGE, nullptr);
    if (package != nullptr) node.package = static_cast<int>(package->logical_index);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

// The text behind the first "key : value" of /proc/cpuinfo.
std::string CpuinfoField(absl::string_view cpuinfo, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() == 2 && absl::StripAsciiWhitespace(parts[0]) == key) {
      return std::string(absl::StripAsciiWhitespace(parts[1]));
    }
  }
  return "";
}

std::string CpuName(hwloc_topology* topology, absl::string_view cpuinfo) {
  const std::string name = CpuinfoField(cpuinfo, "model name");
  if (!name.empty()) return name;
  // ARM has no model name in /proc/cpuinfo; hwloc may know one from the firmware.
  const hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
  const char* info = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : nullptr;
  return info != nullptr ? info : "unknown CPU";
}

// The instruction sets that matter to our kernels, in the spelling of the kernel's flags.
std::vector<std::string> InstructionSets(absl::string_view cpuinfo) {
  static constexpr std::array<const char*, 17> kWanted = {
      "sse4_2",   "avx",      "f16c",        "fma",         "avx2",        "avx_vnni",
      "avx512f",  "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
      "amx_int8", "amx_bf16", "sve",         "asimddp",     "bf16"};
  std::string flags = CpuinfoField(cpuinfo, "flags");
  const bool arm = flags.empty();
  if (arm) flags = CpuinfoField(cpuinfo, "Features");
  const std::vector<std::string> words = absl::StrSplit(flags, ' ', absl::SkipEmpty());
  const std::set<std::string> present(words.begin(), words.end());
  std::vector<std::string> result;
  if (present.count("asimd") || present.count("neon")) result.push_back("neon");
  for (const char* wanted : kWanted) {
    if (present.count(wanted)) result.push_back(wanted);
  }
  return result;
}

void ReadMemory(const std::string& root, const CgroupLimits& limits, DetectedHost& detected) {
  const std::string meminfo = ReadPseudoFile(root + "/proc/meminfo");
  const int64_t total = std::max<int64_t>(0, PseudoFileField(meminfo, "MemTotal"));
  int64_t available = PseudoFileField(meminfo, "MemAvailable");
  // Kernels before 3.14 have no MemAvailable.
  if (available < 0) available = std::max<int64_t>(0, PseudoFileField(meminfo, "MemFree"));
  Host& host = detected.host;
  host.memory_bytes = std::min(total, limits.memory_limit_bytes);
  host.available_bytes = std::min({available, limits.memory_available_bytes, host.memory_bytes});
  if (limits.memory_limit_bytes < total) {
    detected.notes.push_back(absl::StrCat("memory is limited to ",
                                          FormatBytes(limits.memory_limit_bytes), " of ",
                                          FormatBytes(total), " by the control group (container)"));
  }
  if (total == 0) detected.notes.push_back("the memory size could not be read from /proc/meminfo");
}

// A quota of 2.5 CPUs lets two threads run all the time and a third half of it: count three.
void ApplyCpuQuota(const CgroupLimits& limits, DetectedHost& detected) {
  DeviceInfo& cpu = detected.cpu;
  if (limits.cpus <= 0 || limits.cpus >= cpu.threads) return;
  detected.notes.push_back(absl::StrFormat(
      "CPU time is limited to %.4g of %d hardware threads by the control group (container)",
      limits.cpus, cpu.threads));
  cpu.threads = std::max(1, static_cast<int>(std::ceil(limits.cpus)));
  cpu.cores = std::min(cpu.cores, cpu.threads);
}

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

}  // namespace

// What limits first: what a core can have under way, the link of its chiplet, or the channels.
// Sources: a core of a Xeon of 2023 reads 17.4 GB/s and two 34.0 (measured 2026-11, a virtual
// machine), one of a Xeon E5 v3 19.9 (J. McCalpin, Intel's forum, STREAM). A Zen 5 EPYC's core
// reads 41 GB/s with nothing else running and 25 beside other guests, two of one chiplet 79 and 50
// (measured 2026-11, a virtual machine). A package of two channels has 40-90 GB/s nominal, of eight
// to twelve 200-576 (EPYC 9005: 12 x DDR5-6000); caps are about half, as not every channel is full.
double EstimateCpuBandwidth(const DeviceInfo& cpu, int packages) {
  const bool epyc = absl::StrContains(cpu.name, "EPYC");
  const bool of_ddr5 = epyc && (absl::StrContains(cpu.name, "EPYC 9") ||
                                absl::c_linear_search(cpu.isa, "avx512_bf16"));  // Zen 4 and later
  const bool server = epyc || absl::StrContains(cpu.name, "Xeon") ||
                      absl::StrContains(cpu.name, "Threadripper") ||
                      absl::StrContains(cpu.name, "Neoverse");
  const int cores = std::max(1, cpu.cores);
  if (of_ddr5) {
    constexpr int kCoresOfChiplet = 8;
    const int chiplets = (cores + kCoresOfChiplet - 1) / kCoresOfChiplet;
    return std::min({30e9 * cores, 80e9 * chiplets, 300e9 * std::max(1, packages)});
  }
  return std::min(17e9 * cores, (server ? 150e9 : 40e9) * std::max(1, packages));
}

absl::StatusOr<DetectedHost> DetectHost(const std::string& root) {
  ASSIGN_OR_RETURN(const HwlocTopology topology, LoadHwloc());
  const Bitmap allowed = AllowedCpus(topology.get());
  const std::string cpuinfo = ReadPseudoFile(root + "/proc/cpuinfo");
  const CgroupLimits limits = ReadCgroupLimits(root);

  DetectedHost detected;
  detected.host.name = HostName();
  detected.host.numa_nodes = ReadNumaNodes(topology.get(), root);
  ReadMemory(root, limits, detected);

  DeviceInfo& cpu = detected.cpu;
  cpu.id = "cpu";
  cpu.name = CpuName(topology.get(), cpuinfo);
  cpu.isa = InstructionSets(cpuinfo);
  cpu.threads = std::max(1, hwloc_bitmap_weight(allowed.get()));
  cpu.cpus = CpuList(allowed.get());
  // Some virtual machines show no cores.
  cpu.cores = CountAllowed(topology.get(), HWLOC_OBJ_CORE, allowed.get());
  if (cpu.cores == 0) cpu.cores = cpu.threads;
  ApplyCpuQuota(limits, detected);
  cpu.numa_node = detected.host.numa_nodes.size() == 1 ? detected.host.numa_nodes[0].id : -1;
  cpu.memory_bytes = detected.host.memory_bytes;
  cpu.available_bytes = detected.host.available_bytes;
  cpu.memory_bandwidth_bytes_per_s =
      EstimateCpuBandwidth(cpu, CountAllowed(topology.get(), HWLOC_OBJ_PACKAGE, allowed.get()));
  for (const char* fact : {"cores", "threads", "numa_node", "cpus"}) cpu.sources[fact] = "hwloc";
  for (const char* fact : {"name", "memory_bytes", "available_bytes", "isa"}) {
    cpu.sources[fact] = "/proc";
  }
  cpu.sources["memory_bandwidth_bytes_per_s"] = "estimate from the cores";
  return detected;
}

}  // namespace tprun
