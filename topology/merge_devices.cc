#include "topology/merge_devices.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tprun {
namespace {

std::string Shown(const std::string& value) { return value; }
std::string Shown(int value) { return absl::StrCat(value); }
std::string Shown(int64_t value) { return absl::StrCat(value); }
std::string Shown(double value) { return absl::StrCat(value); }

// CUDA sees a little less memory than the driver.
bool Agree(int64_t a, int64_t b) { return std::max(a, b) - std::min(a, b) <= std::max(a, b) / 20; }
bool Agree(int a, int b) { return a == b; }
bool Agree(double a, double b) { return std::abs(a - b) <= 0.05 * std::max(a, b); }
bool Agree(const std::string& a, const std::string& b) { return a == b; }

// Takes facts of one device into another, one member at a time.
class FactMerger {
 public:
  FactMerger(const DeviceInfo& other, const std::string& source, DeviceInfo& mine,
             std::vector<std::string>& notes)
      : other_(other), source_(source), mine_(mine), notes_(notes) {}

  template <typename T>
  void Take(absl::string_view name, T DeviceInfo::*member, const T& unknown = T{}) {
    if (!IsStated(other_, name, other_.*member, unknown)) return;
    if (!IsStated(mine_, name, mine_.*member, unknown)) TakeOver(name, member);
  }

  // As Take, and notes where both state it and differ.
  template <typename T>
  void TakeAndCompare(absl::string_view name, T DeviceInfo::*member, const T& unknown = T{}) {
    const bool both = IsStated(other_, name, other_.*member, unknown) &&
                      IsStated(mine_, name, mine_.*member, unknown);
    if (both && !Agree(mine_.*member, other_.*member)) {
      notes_.push_back(absl::StrCat(mine_.id, ": ", name, " is ", Shown(mine_.*member), " by ",
                                    SourceOf(mine_, name), " and ", Shown(other_.*member), " by ",
                                    SourceOf(other_, name), "; the first is kept"));
    }
    Take(name, member, unknown);
  }

  template <typename T>
  void TakeOver(absl::string_view name, T DeviceInfo::*member) {
    mine_.*member = other_.*member;
    mine_.sources[std::string(name)] = SourceOf(other_, name);
  }

 private:
  // A source tells a stated 0 ("no active links") from an unknown one.
  template <typename T>
  static bool IsStated(const DeviceInfo& device, absl::string_view name, const T& value,
                       const T& unknown) {
    return value != unknown || device.sources.count(std::string(name)) > 0;
  }

  std::string SourceOf(const DeviceInfo& device, absl::string_view name) const {
    const auto found = device.sources.find(std::string(name));
    if (found != device.sources.end()) return found->second;
    return &device == &other_ ? source_ : "another source";
  }

  const DeviceInfo& other_;
  const std::string& source_;
  DeviceInfo& mine_;
  std::vector<std::string>& notes_;
};

void MergeName(const DeviceInfo& other, FactMerger& merger, DeviceInfo& mine,
               std::vector<std::string>& notes) {
  if (!NamesAgree(mine.name, other.name)) {
    notes.push_back(absl::StrCat(mine.id, ": its name is ", mine.name, " and ", other.name,
                                 "; the first is kept"));
  } else if (mine.name.empty() || absl::EndsWith(mine.name, "...")) {
    if (!other.name.empty()) merger.TakeOver("name", &DeviceInfo::name);
  }
}

// The number that nvidia-smi gives a GPU: its stated index, else its rank by PCI bus id, else its
// place in the list.
std::vector<int> Indices(const std::vector<const DeviceInfo*>& gpus) {
  std::vector<int> indices;
  std::vector<std::string> bus_ids;
  for (const DeviceInfo* gpu : gpus) bus_ids.push_back(gpu->pci_bus_id);
  std::sort(bus_ids.begin(), bus_ids.end());
  const bool have_bus_ids = !bus_ids.empty() && !bus_ids.front().empty();
  for (size_t i = 0; i < gpus.size(); ++i) {
    absl::string_view id = gpus[i]->id;
    int index = static_cast<int>(i);
    if (gpus[i]->sources.count("id") && absl::ConsumePrefix(&id, "cuda:")) {
      (void)absl::SimpleAtoi(id, &index);
    } else if (have_bus_ids) {
      index = static_cast<int>(
          std::lower_bound(bus_ids.begin(), bus_ids.end(), gpus[i]->pci_bus_id) - bus_ids.begin());
    }
    indices.push_back(index);
  }
  return indices;
}

// The same GPUs by their numbers; empty where numbers, counts or names do not agree.
std::vector<int> JoinByIndex(const std::vector<const DeviceInfo*>& theirs,
                             const std::vector<const DeviceInfo*>& mine) {
  if (theirs.size() != mine.size()) return {};
  std::map<int, int> by_index;
  const std::vector<int> my_indices = Indices(mine);
  for (size_t i = 0; i < mine.size(); ++i) by_index[my_indices[i]] = static_cast<int>(i);
  std::vector<int> joined;
  std::vector<bool> is_taken(mine.size());
  for (const int index : Indices(theirs)) {
    const auto found = by_index.find(index);
    if (found == by_index.end() || is_taken[found->second]) return {};
    is_taken[found->second] = true;
    if (!NamesAgree(theirs[joined.size()]->name, mine[found->second]->name)) return {};
    joined.push_back(found->second);
  }
  return joined;
}

// Whether all of `gpus` have an identifier of the kind that `gpu` has, so that one with another
// value is another GPU.
bool IsComparable(const DeviceInfo& gpu, const std::vector<const DeviceInfo*>& gpus) {
  const auto all_have = [&](std::string DeviceInfo::*member) {
    return !(gpu.*member).empty() &&
           std::all_of(gpus.begin(), gpus.end(),
                       [member](const DeviceInfo* other) { return !(other->*member).empty(); });
  };
  return all_have(&DeviceInfo::uuid) || all_have(&DeviceInfo::pci_bus_id);
}

}  // namespace

bool NamesAgree(const std::string& a, const std::string& b) {
  absl::string_view first = absl::StripPrefix(a, "NVIDIA ");
  absl::string_view second = absl::StripPrefix(b, "NVIDIA ");
  if (first.empty() || second.empty()) return true;
  const bool first_is_cut = absl::ConsumeSuffix(&first, "...");
  const bool second_is_cut = absl::ConsumeSuffix(&second, "...");
  return first == second || (first_is_cut && absl::StartsWith(second, first)) ||
         (second_is_cut && absl::StartsWith(first, second));
}

std::vector<int> JoinGpus(const std::vector<const DeviceInfo*>& theirs,
                          const std::vector<const DeviceInfo*>& mine, bool& by_index) {
  std::map<std::string, int> by_uuid, by_bus_id;
  for (size_t i = 0; i < mine.size(); ++i) {
    if (!mine[i]->uuid.empty()) by_uuid[mine[i]->uuid] = static_cast<int>(i);
    if (!mine[i]->pci_bus_id.empty()) by_bus_id[mine[i]->pci_bus_id] = static_cast<int>(i);
  }
  by_index = false;
  bool any_unknown = false;
  std::vector<int> joined;
  for (const DeviceInfo* gpu : theirs) {
    const auto uuid = by_uuid.find(gpu->uuid);
    const auto bus_id = by_bus_id.find(gpu->pci_bus_id);
    int index = IsComparable(*gpu, mine) ? kNewGpu : kUnknownGpu;
    if (bus_id != by_bus_id.end()) index = bus_id->second;
    if (uuid != by_uuid.end()) index = uuid->second;
    any_unknown |= index == kUnknownGpu;
    joined.push_back(index);
  }
  if (!any_unknown) return joined;
  const std::vector<int> indexed = JoinByIndex(theirs, mine);
  // Not against what a UUID or a bus id has told.
  for (size_t i = 0; i < indexed.size(); ++i) {
    if (joined[i] != kUnknownGpu && joined[i] != indexed[i]) return joined;
  }
  by_index = !indexed.empty();
  return by_index ? indexed : joined;
}

void MergeDevice(const DeviceInfo& other, const std::string& source, DeviceInfo& mine,
                 std::vector<std::string>& notes) {
  FactMerger merger(other, source, mine, notes);
  if (other.sources.count("id") && !mine.sources.count("id")) {
    merger.TakeOver("id", &DeviceInfo::id);
  }
  MergeName(other, merger, mine, notes);
  merger.TakeAndCompare("numa_node", &DeviceInfo::numa_node, -1);
  merger.TakeAndCompare("memory_numa_node", &DeviceInfo::memory_numa_node, -1);
  merger.TakeAndCompare("cpus", &DeviceInfo::cpus);
  merger.TakeAndCompare("memory_bytes", &DeviceInfo::memory_bytes);
  merger.Take("available_bytes", &DeviceInfo::available_bytes);
  merger.Take("memory_bandwidth_bytes_per_s", &DeviceInfo::memory_bandwidth_bytes_per_s);
  merger.Take("peak_ops_per_s", &DeviceInfo::peak_ops_per_s);
  merger.Take("cores", &DeviceInfo::cores);
  merger.Take("threads", &DeviceInfo::threads);
  merger.Take("isa", &DeviceInfo::isa);
  merger.TakeAndCompare("pci_bus_id", &DeviceInfo::pci_bus_id);
  merger.TakeAndCompare("pci_id", &DeviceInfo::pci_id);
  merger.Take("pci_bridges", &DeviceInfo::pci_bridges);
  merger.TakeAndCompare("compute_capability", &DeviceInfo::compute_capability);
  merger.TakeAndCompare("pcie_generation", &DeviceInfo::pcie_generation);
  merger.TakeAndCompare("pcie_max_generation", &DeviceInfo::pcie_max_generation);
  merger.TakeAndCompare("pcie_width", &DeviceInfo::pcie_width);
  merger.TakeAndCompare("pcie_max_width", &DeviceInfo::pcie_max_width);
  merger.TakeAndCompare("nvlink_count", &DeviceInfo::nvlink_count);
  merger.TakeAndCompare("nvlink_bandwidth_bytes_per_s", &DeviceInfo::nvlink_bandwidth_bytes_per_s);
  merger.TakeAndCompare("uuid", &DeviceInfo::uuid);
  merger.TakeAndCompare("mig", &DeviceInfo::mig);
  if (mine.mig_instances.empty() && !other.mig_instances.empty()) {
    merger.TakeOver("mig_instances", &DeviceInfo::mig_instances);
  }
  if (mine.processes.empty() && !other.processes.empty()) {
    merger.TakeOver("processes", &DeviceInfo::processes);
  }
  // Measurements belong together.
  if (mine.measured.date.empty() && !other.measured.date.empty()) mine.measured = other.measured;
}

void MergeLink(const Link& other, const std::string& between, Link& mine,
               std::vector<std::string>& notes) {
  const auto conflict = [&](absl::string_view what, absl::string_view a, absl::string_view b) {
    notes.push_back(absl::StrCat(between, ": ", what, " is ", a, " by ", mine.source, " and ", b,
                                 " by ", other.source, "; the first is kept"));
  };
  if (mine.kind == LinkKind::kPcie && other.kind != LinkKind::kPcie) {
    mine.kind = other.kind;
    mine.source =
        mine.source.empty() ? other.source : absl::StrCat(mine.source, ", ", other.source);
  } else if (mine.kind != other.kind && other.kind != LinkKind::kPcie) {
    // NCCL says PHB for NODE too.
    const bool nccl_says_phb = (mine.kind == LinkKind::kPhb && other.kind == LinkKind::kNode &&
                                mine.source == "NCCL XML") ||
                               (mine.kind == LinkKind::kNode && other.kind == LinkKind::kPhb &&
                                other.source == "NCCL XML");
    if (!nccl_says_phb) conflict("the way", LinkKindName(mine.kind), LinkKindName(other.kind));
    if (nccl_says_phb && mine.kind == LinkKind::kPhb) {
      mine.kind = other.kind;
      mine.source = other.source;
    }
  }
  if (mine.count > 0 && other.count > 0 && mine.count != other.count) {
    conflict("the number of links", absl::StrCat(mine.count), absl::StrCat(other.count));
  }
  if (mine.count == 0) mine.count = other.count;
  mine.via_switch |= other.via_switch;
  if (mine.bandwidth_bytes_per_s == 0) mine.bandwidth_bytes_per_s = other.bandwidth_bytes_per_s;
  if (mine.latency_s == 0) mine.latency_s = other.latency_s;
  if (mine.peer_access == PeerAccess::kUnknown) {
    mine.peer_access = other.peer_access;
    mine.peer_access_reason = other.peer_access_reason;
    mine.peer_access_verified = other.peer_access_verified;
  }
  if (mine.measured_bandwidth_bytes_per_s == 0) {
    mine.measured_bandwidth_bytes_per_s = other.measured_bandwidth_bytes_per_s;
    mine.measured_latency_s = other.measured_latency_s;
  }
}

}  // namespace tprun
