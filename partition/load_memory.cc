#include "partition/load_memory.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
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

// The ranks of one host.
struct HostRanks {
  HostRef host;
  std::vector<int> ranks;
};

std::vector<HostRanks> RanksByHost(const Topology& topology, const std::vector<DeviceRef>& refs) {
  std::map<HostRef, std::vector<int>> by_host;
  for (size_t i = 0; i < refs.size(); ++i) {
    by_host[HostOf(topology, refs[i])].push_back(static_cast<int>(i));
  }
  std::vector<HostRanks> hosts;
  for (auto& [host, ranks] : by_host) hosts.push_back({host, std::move(ranks)});
  return hosts;
}

// What GPU ranks take of their host's memory has to be there beside what CPU ranks take.
struct HostUse {
  int64_t of_gpu_ranks = 0;
  int64_t left = 0;  // for them
  bool known = false;

  int64_t missing() const { return known ? std::max<int64_t>(0, of_gpu_ranks - left) : 0; }
};

HostUse UseOf(const Topology& topology, const HostRanks& host, const MemoryLimits& limits,
              const Plan& plan) {
  HostUse use;
  for (int r : host.ranks) {
    const RankPlan& rank = plan.ranks[r];
    if (rank.on_host) {
      use.left -= rank.most_bytes();
    } else {
      use.of_gpu_ranks += kProcessBytes + rank.load_bytes;
    }
  }
  const DeviceInfo* cpu = CpuOf(topology, host.host.first);
  if (use.of_gpu_ranks == 0 || cpu == nullptr || cpu->memory_bytes <= 0) return use;
  const int index = static_cast<int>(cpu - topology.devices.data());
  use.left += UsableBytes(*cpu, DeviceId(topology, {index, host.host.second}), limits);
  use.known = true;
  return use;
}

// Ranks need no more than when they run, or there is room for it.
bool Loads(const Topology& topology, const HostRanks& host, const MemoryLimits& limits,
           const Plan& plan) {
  for (int r : host.ranks) {
    const RankPlan& rank = plan.ranks[r];
    if (rank.short_bytes() > 0 && rank.most_bytes() > rank.total_bytes()) return false;
  }
  return UseOf(topology, host, limits, plan).missing() == 0;
}

std::string HostShortage(const Topology& topology, const std::vector<HostRanks>& hosts,
                         const MemoryLimits& limits, const Plan& plan) {
  for (const HostRanks& host : hosts) {
    const HostUse use = UseOf(topology, host, limits, plan);
    if (use.missing() == 0) continue;
    return absl::StrCat("the GPU ranks need ", FormatBytes(use.of_gpu_ranks),
                        " of the memory of host ", topology.hosts[host.host.first].name,
                        " while they load, of which ", FormatBytes(std::max<int64_t>(0, use.left)),
                        " are left for them");
  }
  return "";
}

std::string Threads(int count) { return absl::StrCat(count, count == 1 ? " thread" : " threads"); }

// A plan that was read says it already.
void AddNote(const std::string& note, Plan& plan) {
  if (!absl::c_linear_search(plan.notes, note)) plan.notes.push_back(note);
}

void DescribeRank(int r, int used, Plan& plan) {
  const RankPlan& rank = plan.ranks[r];
  const int readers = rank.load_threads > 0 ? rank.load_threads : used;
  AddBasis(r,
           absl::StrCat("loading takes ", FormatBytes(rank.load_bytes),
                        " of host memory for a moment (", Threads(readers), ")"),
           plan);
  if (rank.load_threads > 0) {
    AddNote(absl::StrCat("rank ", r, " reads its weights with ", Threads(readers), " of ", used,
                         ": there is no room for the buffers of more"),
            plan);
  }
  if (rank.on_host && rank.most_bytes() > rank.total_bytes()) {
    AddNote(absl::StrCat("rank ", r, " needs most of ", rank.device, " while it loads: ",
                         FormatBytes(rank.most_bytes()), ", ", FormatBytes(rank.load_bytes),
                         " of it for ", Threads(readers), "' buffers"),
            plan);
  }
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
  std::vector<int> used;
  std::vector<MemoryLayout> layouts;
  for (int r = 0; r < plan.world_size(); ++r) {
    plan.ranks[r].on_host = !IsGpu(topology, refs[r]);
    used.push_back(threads > 0 ? threads : ThreadsOf(topology, plan, r));
    layouts.push_back(LayOutMemory(spec, plan.placements, r, plan.options));
  }
  const std::vector<HostRanks> hosts = RanksByHost(topology, refs);
  for (const HostRanks& host : hosts) {
    int most = 1;
    for (int r : host.ranks) most = std::max(most, used[r]);
    const auto loads_with = [&](int readers) {
      for (int r : host.ranks) {
        RankPlan& rank = plan.ranks[r];
        rank.load_threads = readers < used[r] ? readers : 0;
        rank.load_bytes = buffers(spec, layouts[r], std::min(readers, used[r]), !rank.on_host);
      }
      return Loads(topology, host, limits, plan);
    };
    if (loads_with(most)) continue;
    int low = 1;
    for (int high = most; low + 1 < high;) {
      const int middle = low + (high - low) / 2;
      (loads_with(middle) ? low : high) = middle;
    }
    loads_with(low);
  }
  for (int r = 0; r < plan.world_size(); ++r) DescribeRank(r, used[r], plan);
  plan.host_shortage = HostShortage(topology, hosts, limits, plan);
  return absl::OkStatus();
}

std::map<std::string, int64_t> LessToLoad(const Topology& topology, const MemoryLimits& limits,
                                          const Plan& plan) {
  std::map<std::string, int64_t> less;
  const absl::StatusOr<std::vector<DeviceRef>> refs = RefsOf(topology, plan);
  if (!refs.ok()) return less;
  // Below what the rank takes now, by what is missing.
  const auto lower = [&](const RankPlan& rank, int64_t missing) {
    int64_t& bytes = less[rank.device];
    bytes = std::max(bytes, rank.available_bytes - rank.total_bytes() + missing);
  };
  for (const RankPlan& rank : plan.ranks) {
    if (rank.total_bytes() > rank.available_bytes) return {};
    if (rank.short_bytes() > 0) lower(rank, rank.short_bytes());
  }
  for (const HostRanks& host : RanksByHost(topology, *refs)) {
    const int64_t missing = UseOf(topology, host, limits, plan).missing();
    if (missing == 0) continue;
    const int64_t on_host = std::count_if(host.ranks.begin(), host.ranks.end(),
                                          [&](int r) { return plan.ranks[r].on_host; });
    if (on_host == 0) return {};
    for (int r : host.ranks) {
      if (plan.ranks[r].on_host) lower(plan.ranks[r], (missing + on_host - 1) / on_host);
    }
  }
  return less;
}

}  // namespace tprun
