#include "topology/doctor_facts.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "topology/cgroup.h"
#include "topology/cpu_list.h"
#include "topology/nvml_api.h"
#include "topology/pseudo_file.h"

extern char** environ;

namespace tprun {
namespace {

// Soft and hard.
std::pair<int64_t, int64_t> Limit(int resource) {
  rlimit limit = {};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) {
    return {kUnlimited, kUnlimited};
  }
  const auto to_int = [](rlim_t value) {
    return value == RLIM_INFINITY || value > static_cast<rlim_t>(kUnlimited)
               ? kUnlimited
               : static_cast<int64_t>(value);
  };
  return {to_int(limit.rlim_cur), to_int(limit.rlim_max)};
}

std::optional<FileSystemSpace> SpaceOf(const std::string& path) {
  struct statvfs space = {};
  if (statvfs(path.c_str(), &space) != 0) return {};
  const auto block = static_cast<int64_t>(space.f_frsize);
  return FileSystemSpace{.total_bytes = static_cast<int64_t>(space.f_blocks) * block,
                         .free_bytes = static_cast<int64_t>(space.f_bavail) * block};
}

// "madvise" of "always [madvise] never".
std::string Chosen(absl::string_view text) {
  const size_t begin = text.find('['), end = text.find(']');
  if (begin == absl::string_view::npos || end == absl::string_view::npos || end < begin) return "";
  return std::string(text.substr(begin + 1, end - begin - 1));
}

std::string AllowedCpus() {
  // Beyond 1024 CPUs the fixed cpu_set_t is too small.
  constexpr int kMost = 8192;
  const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(kMost),
                                                             [](cpu_set_t* s) { CPU_FREE(s); });
  const size_t bytes = CPU_ALLOC_SIZE(kMost);
  if (set == nullptr || sched_getaffinity(0, bytes, set.get()) != 0) return "";
  std::vector<int> cpus;
  for (int cpu = 0; cpu < kMost; ++cpu) {
    if (CPU_ISSET_S(cpu, bytes, set.get())) cpus.push_back(cpu);
  }
  return FormatCpuList(cpus);
}

bool InContainer(const std::string& root) {
  if (FileExists(root + "/.dockerenv") || FileExists(root + "/run/.containerenv")) return true;
  const std::string groups = ReadPseudoFile(root + "/proc/1/cgroup");
  return absl::StrContains(groups, "docker") || absl::StrContains(groups, "kubepods") ||
         absl::StrContains(groups, "containerd");
}

void ReadFrequencies(const std::string& root, SystemFacts& facts) {
  const std::string cpus = root + "/sys/devices/system/cpu";
  for (const std::string& name : ListFolder(cpus)) {
    const std::string folder = absl::StrCat(cpus, "/", name, "/cpufreq");
    const std::string governor = ReadPseudoLine(folder + "/scaling_governor");
    if (governor.empty()) continue;
    ++facts.governors[governor];
    if (!facts.frequency_driver.empty()) continue;
    facts.frequency_driver = ReadPseudoLine(folder + "/scaling_driver");
    facts.energy_preference = ReadPseudoLine(folder + "/energy_performance_preference");
  }
}

void ReadHugepages(const std::string& root, SystemFacts& facts) {
  facts.transparent_hugepages =
      Chosen(ReadPseudoFile(root + "/sys/kernel/mm/transparent_hugepage/enabled"));
  const std::string folder = root + "/sys/kernel/mm/hugepages";
  for (const std::string& name : ListFolder(folder)) {  // "hugepages-2048kB"
    int64_t kib, reserved, free;
    const size_t dash = name.find('-');
    if (dash == std::string::npos ||
        !absl::SimpleAtoi(name.substr(dash + 1, name.size() - dash - 3), &kib) || kib <= 0 ||
        kib > (int64_t{1} << 30)) {
      continue;
    }
    const std::string pages = absl::StrCat(folder, "/", name);
    if (!absl::SimpleAtoi(ReadPseudoLine(pages + "/nr_hugepages"), &reserved) ||
        !absl::SimpleAtoi(ReadPseudoLine(pages + "/free_hugepages"), &free)) {
      continue;
    }
    const int64_t most = kUnlimited / 1024 / kib;
    facts.reserved_hugepage_bytes += std::clamp<int64_t>(reserved, 0, most / 64) * kib * 1024;
    facts.free_hugepage_bytes += std::clamp<int64_t>(free, 0, most / 64) * kib * 1024;
  }
}

void ReadBridges(const std::vector<std::string>& gpu_bus_ids, const std::string& root,
                 SystemFacts& facts) {
  std::set<std::string> bridges;
  for (const std::string& gpu : gpu_bus_ids) {
    for (const std::string& bridge : ReadPciFunction(root, gpu).bridges) bridges.insert(bridge);
  }
  for (const std::string& bridge : bridges) {
    const PeerRedirect redirect = ReadPeerRedirect(root, bridge);
    if (redirect != PeerRedirect::kUnknown) facts.bridges_readable = true;
    if (redirect == PeerRedirect::kYes) facts.redirecting_bridges.push_back(bridge);
  }
}

void ReadEnvironment(SystemFacts& facts) {
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const absl::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == absl::string_view::npos) continue;
    if (!absl::StartsWith(text, "CUDA_") && !absl::StartsWith(text, "NCCL_")) continue;
    facts.environment[std::string(text.substr(0, equals))] = std::string(text.substr(equals + 1));
  }
}

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.154.05  Thu Dec 28 ..."; open modules say
// "... Open Kernel Module for x86_64  570.86.15  Release Build". The first word of digits with a
// dot.
std::string KernelModuleVersion(const std::string& root) {
  const std::string text = ReadPseudoFile(root + "/proc/driver/nvidia/version");
  for (absl::string_view word :
       absl::StrSplit(text.substr(0, text.find('\n')), ' ', absl::SkipEmpty())) {
    const bool is_version = absl::StrContains(word, ".") &&
                            std::all_of(word.begin(), word.end(),
                                        [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
    if (is_version) return std::string(word);
  }
  return "";
}

}  // namespace

SystemFacts ReadSystemFacts(const std::vector<std::string>& gpu_bus_ids, const std::string& root) {
  SystemFacts facts;
  facts.ram_bytes =
      std::max<int64_t>(0, PseudoFileField(ReadPseudoFile(root + "/proc/meminfo"), "MemTotal"));
  const CgroupLimits limits = ReadCgroupLimits(root);
  facts.memory_limit_bytes = limits.memory_limit_bytes;
  facts.cpu_limit = limits.cpus;
  const absl::StatusOr<std::vector<int>> online =
      ParseCpuList(ReadPseudoLine(root + "/sys/devices/system/cpu/online"));
  if (online.ok()) facts.cpus_online = static_cast<int>(online->size());
  facts.cpus_allowed = AllowedCpus();
  facts.in_container = InContainer(root);
  facts.shared_memory = SpaceOf(root + "/dev/shm");
  ReadHugepages(root, facts);
  facts.lockable_bytes = Limit(RLIMIT_MEMLOCK).first;
  std::tie(facts.open_files, facts.open_files_hard) = Limit(RLIMIT_NOFILE);
  ReadFrequencies(root, facts);
  facts.iommu = ReadIommu(root);
  ReadBridges(gpu_bus_ids, root, facts);
  facts.peer_memory_module = IsDirectory(root + "/sys/module/nvidia_peermem");
  ReadEnvironment(facts);
  return facts;
}

DriverFacts ReadDriverFacts(const GpuSource& source) {
  DriverFacts facts;
  const absl::StatusOr<NvmlApi> api = LoadNvml(source.nvml_library);
  facts.loaded = api.ok();
  if (!api.ok()) facts.problem = std::string(api.status().message());
  facts.kernel_version = KernelModuleVersion(source.sysfs_root);
  for (PciFunction& card : ListPciFunctions(source.sysfs_root, 0x03)) {
    if (absl::StartsWith(card.pci_id, "10de:")) facts.cards.push_back(std::move(card));
  }
  return facts;
}

}  // namespace tprun
