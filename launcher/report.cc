#include "launcher/report.h"

#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "launcher/terminal.h"

namespace tprun {

int64_t ResidentBytes() {
  const absl::StatusOr<std::string> status = ReadFile("/proc/self/status");
  if (!status.ok()) return 0;
  for (absl::string_view line : absl::StrSplit(*status, '\n')) {
    if (!absl::ConsumePrefix(&line, "VmRSS:")) continue;
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    int64_t kibibytes = 0;
    if (!words.empty() && absl::SimpleAtoi(absl::StripAsciiWhitespace(words[0]), &kibibytes)) {
      return kibibytes * kKiB;
    }
  }
  return 0;
}

absl::StatusOr<std::vector<double>> GatherDoubles(Communicator& world, double value) {
  // As pairs of 32-bit elements, which every back end moves unchanged.
  std::vector<double> values(world.size());
  const std::vector<int64_t> counts(world.size(), 2);
  RETURN_IF_ERROR(world.AllGather(&value, values.data(), counts, DType::kF32));
  return values;
}

absl::Status ReportMemory(RankSession& session) {
  // Threads of one process share their resident memory: only processes can be compared.
  const bool threads = session.world().backend() == "local" && session.world().size() > 1;
  ASSIGN_OR_RETURN(const std::vector<double> in_use,
                   GatherDoubles(session.world(), static_cast<double>(ResidentBytes())));
  if (!session.first_rank()) return absl::OkStatus();
  const Plan& plan = session.model().plan;
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    const RankPlan& predicted = plan.ranks[rank];
    std::string line = absl::StrCat("rank ", rank, " on ", predicted.device, ": predicted ",
                                    FormatBytes(predicted.total_bytes()));
    if (!threads) {
      absl::StrAppend(&line, ", in use ", FormatBytes(static_cast<int64_t>(in_use[rank])));
    }
    WriteLog(line);
  }
  if (threads) {
    WriteLog(
        absl::StrCat("all ranks as threads of one process: in use ", FormatBytes(ResidentBytes())));
  }
  return absl::OkStatus();
}

}  // namespace tprun
