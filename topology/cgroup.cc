#include "topology/cgroup.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

// Where a hierarchy is mounted, and which of its groups the mount shows at its top.
struct Mount {
  std::string point;
  std::string top;
};

// The mount of version 2 (`controller` empty) or of a controller of version 1. A line of mountinfo:
// "36 35 98:0 /top /mount/point rw - cgroup cgroup rw,memory".
std::optional<Mount> FindMount(const std::string& root, absl::string_view controller) {
  for (absl::string_view line :
       absl::StrSplit(ReadPseudoFile(root + "/proc/self/mountinfo"), '\n')) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, " - ");
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    const bool found =
        controller.empty()
            ? right[0] == "cgroup2"
            : right[0] == "cgroup" && absl::StrContains(absl::StrCat(",", right[2], ","),
                                                        absl::StrCat(",", controller, ","));
    if (found) return Mount{std::string(left[4]), std::string(left[3])};
  }
  return std::nullopt;
}

// The group of this process: "0::/path" (version 2) or "4:memory:/path".
std::string FindGroup(const std::string& root, absl::string_view controller) {
  for (absl::string_view line : absl::StrSplit(ReadPseudoFile(root + "/proc/self/cgroup"), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool found = controller.empty() ? parts[0] == "0" && parts[1].empty()
                                          : absl::StrContains(absl::StrCat(",", parts[1], ","),
                                                              absl::StrCat(",", controller, ","));
    if (found) return std::string(parts[2]);
  }
  return "/";
}

// The folders of the group and of all above it, as every one of them limits. In a container the
// group's own path is often not visible; then only the mount itself is left.
std::vector<std::string> GroupFolders(const std::string& root, absl::string_view controller) {
  const std::optional<Mount> mount = FindMount(root, controller);
  if (!mount.has_value()) return {};
  std::string group = FindGroup(root, controller);
  if (mount->top != "/" && absl::StartsWith(group, mount->top)) group.erase(0, mount->top.size());
  std::vector<std::string> folders = {root + mount->point};
  std::string path = root + mount->point;
  for (absl::string_view part : absl::StrSplit(group, '/', absl::SkipEmpty())) {
    if (part == "..") break;
    absl::StrAppend(&path, "/", part);
    folders.push_back(path);
  }
  return folders;
}

// A number in a file; none for "max", an absent file, and the huge value that means no limit in v1.
std::optional<int64_t> ReadLimit(const std::string& path) {
  int64_t value;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(ReadPseudoFile(path)), &value)) return {};
  if (value < 0 || value >= (int64_t{1} << 60)) return {};
  return value;
}

void ApplyMemory(const std::string& folder, const char* limit_name, const char* usage_name,
                 CgroupLimits& limits) {
  const std::optional<int64_t> limit = ReadLimit(absl::StrCat(folder, "/", limit_name));
  if (!limit.has_value()) return;
  const int64_t usage = ReadLimit(absl::StrCat(folder, "/", usage_name)).value_or(0);
  // Page cache that nobody used lately goes away under pressure. v1 has it with and without the
  // groups below.
  const std::string stat = ReadPseudoFile(folder + "/memory.stat");
  const int64_t cache = std::max(PseudoFileField(stat, "total_inactive_file"),
                                 PseudoFileField(stat, "inactive_file"));
  const int64_t used = std::max<int64_t>(0, usage - std::max<int64_t>(cache, 0));
  const int64_t available = std::max<int64_t>(0, *limit - used);
  limits.memory_limit_bytes = std::min(limits.memory_limit_bytes, *limit);
  limits.memory_available_bytes = std::min(limits.memory_available_bytes, available);
}

void ApplyCpus(double quota, double period, CgroupLimits& limits) {
  if (quota <= 0 || period <= 0) return;
  const double cpus = quota / period;
  limits.cpus = limits.cpus == 0 ? cpus : std::min(limits.cpus, cpus);
}

// cpu.max of v2: "200000 100000" or "max 100000".
void ApplyCpuMax(const std::string& folder, CgroupLimits& limits) {
  const std::string text = ReadPseudoFile(folder + "/cpu.max");
  const std::vector<absl::string_view> parts =
      absl::StrSplit(absl::StripAsciiWhitespace(text), ' ');
  double quota, period;
  if (parts.size() == 2 && absl::SimpleAtod(parts[0], &quota) &&
      absl::SimpleAtod(parts[1], &period)) {
    ApplyCpus(quota, period, limits);
  }
}

}  // namespace

CgroupLimits ReadCgroupLimits(const std::string& root) {
  CgroupLimits limits;
  for (const std::string& folder : GroupFolders(root, "")) {
    ApplyMemory(folder, "memory.max", "memory.current", limits);
    ApplyCpuMax(folder, limits);
  }
  for (const std::string& folder : GroupFolders(root, "memory")) {
    ApplyMemory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", limits);
  }
  for (const std::string& folder : GroupFolders(root, "cpu")) {
    const int64_t quota = ReadLimit(folder + "/cpu.cfs_quota_us").value_or(0);
    const int64_t period = ReadLimit(folder + "/cpu.cfs_period_us").value_or(0);
    ApplyCpus(static_cast<double>(quota), static_cast<double>(period), limits);
  }
  return limits;
}

}  // namespace tprun
