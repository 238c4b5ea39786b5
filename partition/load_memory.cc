#include "partition/load_memory.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"

namespace tprun {
namespace {

using HostRef = std::pair<int, int>;  // host and copy of it

absl::StatusOr<std::vector<DeviceRef>> RefsOf(const Topology& topology, const Plan& plan) {
  std::vector<DeviceRef> refs;
  for (const RankPlan& rank : plan.ranks) {
    ASSIGN_OR_RETURN(const DeviceRef ref, LocateDevice(topology, rank.device));
    refs.push_back(ref);
  }
  return refs;
}

HostRef HostOf(const Topology& topology, const DeviceRef& ref) {
  return {topology.devices[ref.device].host, ref.instance};
}

// nullptr: nothing is known of it.
const DeviceInfo* CpuOf(const Topology& topology, int host) {
  for (const DeviceInfo& device : topology.devices) {
    if (device.host == host && device.kind == DeviceKind::kCpu) return &device;
  }
  return nullptr;
}

bool IsGpu(const Topology& topology, const DeviceRef& ref) {
  return topology.devices[ref.device].kind == DeviceKind::kGpu;
}

// What GPU ranks take of their hosts' memory has to be there beside what CPU ranks take.
std::string HostShortage(const Topology& topology, const std::vector<DeviceRef>& refs,
                         const MemoryLimits& limits, const Plan& plan) {
  std::map<HostRef, int64_t> of_gpu_ranks;
  std::map<HostRef, int64_t> of_cpu_ranks;
  for (size_t i = 0; i < refs.size(); ++i) {
    const RankPlan& rank = plan.ranks[i];
    const HostRef host = HostOf(topology, refs[i]);
    if (IsGpu(topology, refs[i])) {
      of_gpu_ranks[host] += kProcessBytes + rank.load_bytes;
    } else {
      of_cpu_ranks[host] += rank.most_bytes();
    }
  }
  for (const auto& [host, bytes] : of_gpu_ranks) {
    const DeviceInfo* cpu = CpuOf(topology, host.first);
    if (cpu == nullptr || cpu->memory_bytes <= 0) continue;
    const int64_t there = UsableBytes(*cpu, cpu->id, limits) - of_cpu_ranks[host];
    if (bytes <= there) continue;
    return absl::StrCat("the GPU ranks need ", FormatBytes(bytes), " of the memory of host ",
                        topology.hosts[host.first].name, " while they load, of which ",
                        FormatBytes(std::max<int64_t>(0, there)), " are left for them");
  }
  return "";
}

}  // namespace

int ThreadsOf(const Topology& topology, const Plan& plan, int rank) {
  const absl::StatusOr<std::vector<DeviceRef>> refs = RefsOf(topology, plan);
  if (!refs.ok()) return 1;
  const HostRef host = HostOf(topology, (*refs)[rank]);
  int ranks = 0;
  for (const DeviceRef& ref : *refs) ranks += HostOf(topology, ref) == host;
  const DeviceInfo* cpu = CpuOf(topology, host.first);
  return cpu == nullptr ? 1 : std::max(1, std::max(cpu->cores, cpu->threads) / ranks);
}

absl::Status DescribeLoading(const Topology& topology, const ModelSpec& spec,
                             const LoadBuffers& buffers, int threads, const MemoryLimits& limits,
                             Plan& plan) {
  plan.host_shortage.clear();
  if (!buffers) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<DeviceRef> refs, RefsOf(topology, plan));
  for (int i = 0; i < plan.world_size(); ++i) {
    RankPlan& rank = plan.ranks[i];
    rank.on_host = !IsGpu(topology, refs[i]);
    const int used = threads > 0 ? threads : ThreadsOf(topology, plan, i);
    const MemoryLayout layout = LayOutMemory(spec, plan.placements, i, plan.options);
    rank.load_bytes = buffers(spec, layout, used, !rank.on_host);
    plan.basis.push_back(absl::StrCat("rank ", i, ": loading takes ", FormatBytes(rank.load_bytes),
                                      " of host memory for a moment (", used,
                                      used == 1 ? " thread)" : " threads)"));
    if (rank.on_host && rank.most_bytes() > rank.total_bytes()) {
      plan.notes.push_back(absl::StrCat("rank ", i, " needs most of ", rank.device,
                                        " while it loads: ", FormatBytes(rank.most_bytes()), ", ",
                                        FormatBytes(rank.load_bytes), " of it for ", used,
                                        used == 1 ? " thread" : " threads", "' buffers"));
    }
  }
  plan.host_shortage = HostShortage(topology, refs, limits, plan);
  return absl::OkStatus();
}

}  // namespace tprun
