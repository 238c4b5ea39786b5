#include "comm/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"

namespace tprun {
namespace {

// Files of /proc and the cgroup file system have no size; "" for one that cannot be read.
std::string ReadSystemFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

absl::optional<int64_t> ParseNumber(absl::string_view text) {
  int64_t value;
  if (!absl::SimpleAtoi(text, &value) || value < 0) return absl::nullopt;  // "max" means no limit
  return value;
}

// The number behind `key` at the start of a line.
absl::optional<int64_t> NumberAfter(const std::string& text, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() >= 2 && words[0] == key) return ParseNumber(words[1]);
  }
  return absl::nullopt;
}

// How one version of the memory cgroup names its files.
struct CgroupNames {
  const char* mount;
  const char* limit;
  const char* usage;
  const char* inactive_file;
  const char* active_file;
};
constexpr CgroupNames kVersion2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current",
                                   "inactive_file", "active_file"};
constexpr CgroupNames kVersion1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
                                   "/memory.usage_in_bytes", "total_inactive_file",
                                   "total_active_file"};

// What the limit of one cgroup folder leaves; the most possible when there is no limit.
int64_t LeftIn(const std::string& folder, const CgroupNames& names) {
  const auto limit = ParseNumber(ReadSystemFile(folder + names.limit));
  const auto usage = ParseNumber(ReadSystemFile(folder + names.usage));
  if (!limit || !usage) return std::numeric_limits<int64_t>::max();
  const std::string stat = ReadSystemFile(folder + "/memory.stat");
  const int64_t cache = NumberAfter(stat, names.inactive_file).value_or(0) +
                        NumberAfter(stat, names.active_file).value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cache));
}

// The limits of `path` and of all folders above it hold. In a container the path may be that of the
// host, which is not mounted here: its folders are then skipped, but for the root.
int64_t LeftInPath(const std::string& root, absl::string_view path, const CgroupNames& names) {
  int64_t left = std::numeric_limits<int64_t>::max();
  std::string folder = absl::StrCat(root, names.mount);
  left = std::min(left, LeftIn(folder, names));
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == "..") break;
    absl::StrAppend(&folder, "/", part);
    left = std::min(left, LeftIn(folder, names));
  }
  return left;
}

int64_t LeftInCgroups(const std::string& root) {
  int64_t left = std::numeric_limits<int64_t>::max();
  const std::string cgroups = ReadSystemFile(root + "/proc/self/cgroup");
  for (absl::string_view line : absl::StrSplit(cgroups, '\n')) {
    // "0::/user.slice" (version 2) or "9:memory:/docker/..." (version 1)
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[0] == "0" && fields[1].empty()) {
      left = std::min(left, LeftInPath(root, fields[2], kVersion2));
    }
    for (absl::string_view controller : absl::StrSplit(fields[1], ',')) {
      if (controller == "memory") left = std::min(left, LeftInPath(root, fields[2], kVersion1));
    }
  }
  return left;
}

}  // namespace

absl::StatusOr<int64_t> AvailableMemory(const std::string& root) {
  const std::string path = root + "/proc/meminfo";
  const auto available_kib = NumberAfter(ReadSystemFile(path), "MemAvailable:");
  if (!available_kib) {
    return absl::UnavailableError(
        absl::StrCat(path, ": wanted a line \"MemAvailable:\", found none"));
  }
  return std::min(*available_kib * 1024, LeftInCgroups(root));
}

}  // namespace tprun
