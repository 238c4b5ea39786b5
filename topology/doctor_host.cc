#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/cpu_list.h"
#include "topology/doctor_checks.h"

namespace tprun {
namespace {

std::set<int> CpuSet(const std::string& list) {
  const absl::StatusOr<std::vector<int>> cpus = ParseCpuList(list);
  if (!cpus.ok()) return {};
  return std::set<int>(cpus->begin(), cpus->end());
}

bool Meet(const std::set<int>& a, const std::set<int>& b) {
  return std::any_of(a.begin(), a.end(), [&](int cpu) { return b.count(cpu) > 0; });
}

bool HasRdma(const DoctorFacts& facts) {
  return std::any_of(facts.topology.nics.begin(), facts.topology.nics.end(), [](const Nic& nic) {
    return nic.pci_id.rfind("15b3:", 0) == 0 || nic.name.rfind("mlx", 0) == 0;
  });
}

std::string LimitText(int64_t limit) {
  return limit == kUnlimited ? "unlimited" : absl::StrCat(limit);
}

}  // namespace

Findings CheckHostMemory(const DoctorFacts& facts) {
  if (!facts.system.has_value() || facts.topology.hosts.empty()) return {};
  const SystemFacts& system = *facts.system;
  const Host& host = facts.topology.hosts[0];
  Findings findings;
  if (system.memory_limit_bytes < system.ram_bytes) {
    findings.push_back(Warning(
        "memory-limit", "host memory",
        absl::StrCat("limited to ", FormatBytes(system.memory_limit_bytes), " of ",
                     FormatBytes(system.ram_bytes), " by the control group",
                     system.in_container ? " (container)" : ""),
        "give it more: docker run --memory=..., resources.limits.memory of a pod, or MemoryMax= of "
        "the service; beyond the limit the kernel kills the process"));
  }
  const std::string free = absl::StrCat(FormatBytes(host.available_bytes), " of ",
                                        FormatBytes(host.memory_bytes), " free");
  if (host.memory_bytes > 0 && host.available_bytes < host.memory_bytes / 5) {
    findings.push_back(Warning("host-memory", "host memory", free,
                               "see who holds it: `ps aux --sort=-rss | head`"));
  } else if (host.memory_bytes > 0) {
    findings.push_back(Ok("host-memory", "host memory", free));
  }
  return findings;
}

Findings CheckCpus(const DoctorFacts& facts) {
  if (!facts.system.has_value()) return {};
  const SystemFacts& system = *facts.system;
  Findings findings;
  const int allowed = static_cast<int>(CpuSet(system.cpus_allowed).size());
  if (system.cpu_limit > 0 && (allowed == 0 || system.cpu_limit < allowed)) {
    findings.push_back(
        Warning("cpu-limit", "CPU",
                absl::StrFormat("%.4g CPUs of time by the control group", system.cpu_limit),
                "docker run --cpus=..., resources.limits.cpu of a pod, or CPUQuota= "
                "of the service"));
  } else if (allowed > 0 && allowed < system.cpus_online) {
    findings.push_back(
        Warning("cpu-limit", "CPU",
                absl::StrCat("this process may use ", allowed, " of ", system.cpus_online,
                             " hardware threads (", system.cpus_allowed, ")"),
                "if you did not want that: look for taskset, numactl, Slurm's "
                "--cpus-per-task or docker's --cpuset-cpus"));
  } else if (allowed > 0) {
    findings.push_back(
        Ok("cpu-limit", "CPU", absl::StrCat("all ", allowed, " hardware threads may be used")));
  }
  // With intel_pstate and amd-pstate "powersave" follows the load; how eagerly is the preference.
  const auto powersave = system.governors.find("powersave");
  const bool follows_load = system.frequency_driver.find("pstate") != std::string::npos &&
                            system.energy_preference != "power";
  if (powersave != system.governors.end() && !follows_load) {
    findings.push_back(
        Warning("governor", "CPU",
                absl::StrCat(powersave->second, " CPUs are kept at low clocks (powersave)"),
                "sudo cpupower frequency-set -g performance"));
  } else if (!system.governors.empty()) {
    findings.push_back(
        Ok("governor", "CPU", absl::StrCat("governor ", system.governors.begin()->first)));
  }
  return findings;
}

// Threads far from a GPU reach it over the link between the sockets.
Findings CheckNumaBinding(const DoctorFacts& facts) {
  if (!facts.system.has_value() || facts.topology.hosts.empty()) return {};
  const std::vector<NumaNode>& nodes = facts.topology.hosts[0].numa_nodes;
  const std::set<int> allowed = CpuSet(facts.system->cpus_allowed);
  if (nodes.size() < 2 || allowed.empty()) return {};
  std::vector<std::string> bound;
  std::set<int> near;  // nodes of which this process may use CPUs
  for (const NumaNode& node : nodes) {
    if (!Meet(CpuSet(node.cpus), allowed)) continue;
    near.insert(node.id);
    bound.push_back(absl::StrCat(node.id));
  }
  if (near.size() == nodes.size()) {
    return {Ok("numa", "NUMA", absl::StrCat("this process may use all ", nodes.size(), " nodes"))};
  }
  const std::string where = absl::StrCat("this process is bound to NUMA node ",
                                         absl::StrJoin(bound, ", "), " of ", nodes.size());
  Findings findings;
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    if (gpu->numa_node < 0 || near.count(gpu->numa_node)) continue;
    findings.push_back(Warning(
        "numa", GpuTitle(facts, *gpu), absl::StrCat(where, ", the GPU is at node ", gpu->numa_node),
        absl::StrCat("numactl --cpunodebind=", gpu->numa_node, " --membind=", gpu->numa_node,
                     " for the rank of this GPU, or no binding at all")));
  }
  if (findings.empty()) findings.push_back(Ok("numa", "NUMA", where));
  return findings;
}

// NCCL puts 4 to 10 MiB per pair of GPUs there, MPI its queues; Docker's default is 64 MiB.
Findings CheckSharedMemory(const DoctorFacts& facts) {
  if (!facts.system.has_value()) return {};
  const SystemFacts& system = *facts.system;
  const std::string more =
      system.in_container ? "docker run --shm-size=1g (or --ipc=host); in a pod an emptyDir of "
                            "medium: Memory at /dev/shm"
                          : "sudo mount -o remount,size=1g /dev/shm";
  if (!system.shared_memory.has_value()) {
    return {Problem("shm", "/dev/shm", "not mounted: MPI and NCCL exchange through it",
                    system.in_container ? more : "sudo mount -t tmpfs -o size=1g tmpfs /dev/shm")};
  }
  const FileSystemSpace& space = *system.shared_memory;
  const std::string size =
      absl::StrCat(FormatBytes(space.free_bytes), " of ", FormatBytes(space.total_bytes), " free");
  if (space.total_bytes <= 64 * kMiB) {
    return {GpusOf(facts).size() > 1
                ? Problem("shm", "/dev/shm", size + ": too small for NCCL", more)
                : Warning("shm", "/dev/shm", size + ": several ranks may not fit", more)};
  }
  if (space.free_bytes < 256 * kMiB) {
    return {Warning(
        "shm", "/dev/shm", size,
        space.total_bytes < kGiB ? more : "remove what dead programs left: `ls -l /dev/shm`")};
  }
  return {Ok("shm", "/dev/shm", size)};
}

Findings CheckHugepages(const DoctorFacts& facts) {
  if (!facts.system.has_value()) return {};
  const SystemFacts& system = *facts.system;
  Findings findings;
  if (system.transparent_hugepages == "never") {
    findings.push_back(
        Warning("hugepages", "huge pages",
                "transparent huge pages are off: the CPU reads memory about 10 % slower",
                "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"));
  } else if (!system.transparent_hugepages.empty()) {
    findings.push_back(
        Ok("hugepages", "huge pages", absl::StrCat("transparent: ", system.transparent_hugepages)));
  }
  if (system.free_hugepage_bytes > std::max<int64_t>(kGiB, system.ram_bytes / 20)) {
    findings.push_back(
        Warning("hugepages-reserved", "huge pages",
                absl::StrCat(FormatBytes(system.free_hugepage_bytes),
                             " are reserved as huge pages and nobody uses them: that "
                             "memory is lost to all others"),
                "sudo sysctl vm.nr_hugepages=0"));
  }
  return findings;
}

Findings CheckLimits(const DoctorFacts& facts) {
  if (!facts.system.has_value()) return {};
  const SystemFacts& system = *facts.system;
  Findings findings;
  const std::string lockable =
      system.lockable_bytes == kUnlimited ? "unlimited" : FormatBytes(system.lockable_bytes);
  if (system.lockable_bytes != kUnlimited && HasRdma(facts)) {
    findings.push_back(Problem("memlock", "ulimit -l",
                               absl::StrCat(lockable,
                                            " of memory may be locked: RDMA needs to lock its "
                                            "buffers"),
                               "docker run --ulimit memlock=-1, or `* - memlock unlimited` in "
                               "/etc/security/limits.conf and a new login"));
  } else {
    findings.push_back(Ok("memlock", "ulimit -l", lockable));
  }
  const int64_t wanted = GpusOf(facts).size() > 4 ? 4096 : 1024;
  if (system.open_files < wanted) {
    findings.push_back(Warning("nofile", "ulimit -n",
                               absl::StrCat(system.open_files,
                                            " open files; sockets and shared memory of many ranks "
                                            "want ",
                                            wanted),
                               system.open_files_hard >= wanted
                                   ? absl::StrCat("ulimit -n ", wanted)
                                   : absl::StrCat("`* - nofile ", wanted,
                                                  "` in /etc/security/limits.conf and a new "
                                                  "login, or docker run --ulimit nofile=",
                                                  wanted)));
  } else {
    findings.push_back(Ok("nofile", "ulimit -n", LimitText(system.open_files)));
  }
  return findings;
}

}  // namespace tprun
