#include "launcher/process_time.h"

#include <unistd.h>

#include <ctime>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/file.h"

namespace tprun {

double SecondsSinceStart() {
  constexpr int kStartTime = 22 - 3;  // in ticks since boot, counted behind the command's name
  const absl::StatusOr<std::string> stat = ReadFile("/proc/self/stat", 1 << 16);
  if (!stat.ok()) return 0;
  const size_t name_end = stat->rfind(") ");  // a name may hold anything
  if (name_end == std::string::npos) return 0;
  const std::vector<std::string> fields = absl::StrSplit(stat->substr(name_end + 2), ' ');
  double ticks;
  if (fields.size() <= kStartTime || !absl::SimpleAtod(fields[kStartTime], &ticks)) return 0;
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) -
         ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace tprun
