#include "launcher/report.h"

#include <algorithm>
#include <cstring>
#include <map>
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

namespace {

std::string InUse(double bytes) {
  return absl::StrCat(", in use ", FormatBytes(static_cast<int64_t>(bytes)));
}

// The memory of a device that several ranks share, which only counts for all of them.
void ReportSharedDevices(const Plan& plan, const std::vector<double>& in_use) {
  std::map<std::string, std::vector<int>> ranks_of;
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    ranks_of[plan.ranks[rank].device].push_back(rank);
  }
  for (const auto& [device, ranks] : ranks_of) {
    if (ranks.size() < 2 || IsCpu(device)) continue;
    int64_t predicted = 0;
    double used = 0;
    for (int rank : ranks) {
      predicted += plan.ranks[rank].total_bytes();
      used = std::max(used, in_use[rank]);
    }
    WriteLog(
        absl::StrCat("all ranks on ", device, ": predicted ", FormatBytes(predicted), InUse(used)));
  }
}

}  // namespace

absl::Status ReportMemory(RankSession& session) {
  // Threads of one process share their resident memory: only processes can be compared.
  const bool threads = session.world().backend() == "local" && session.world().size() > 1;
  ASSIGN_OR_RETURN(const std::vector<double> in_use,
                   GatherDoubles(session.world(), static_cast<double>(session.MemoryInUse())));
  if (!session.first_rank()) return absl::OkStatus();
  const Plan& plan = session.model().plan;
  bool any_cpu = false, any_gpu = false;
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    const RankPlan& predicted = plan.ranks[rank];
    const bool cpu = IsCpu(predicted.device);
    const auto sharing =
        std::count_if(plan.ranks.begin(), plan.ranks.end(),
                      [&](const auto& other) { return other.device == predicted.device; });
    std::string line = absl::StrCat("rank ", rank, " on ", predicted.device, ": predicted ",
                                    FormatBytes(predicted.total_bytes()));
    if (cpu ? !threads : sharing == 1) absl::StrAppend(&line, InUse(in_use[rank]));
    WriteLog(line);
    (cpu ? any_cpu : any_gpu) = true;
  }
  ReportSharedDevices(plan, in_use);
  if (threads && any_cpu) {
    WriteLog(
        absl::StrCat("all ranks as threads of one process: in use ", FormatBytes(ResidentBytes())));
  }
  if (any_gpu) WriteLog(absl::StrCat("exchange: ", session.exchange().description()));
  return absl::OkStatus();
}

}  // namespace tprun
