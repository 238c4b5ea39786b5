#include <set>

#include "absl/strings/str_cat.h"
#include "partition/export.h"
#include "partition/export_layers.h"

namespace tprun {
namespace {

std::string MpiHost(const RankPlan& rank) {
  const std::string host = HostOf(rank.device);
  return host.empty() ? "localhost" : host;
}

}  // namespace

std::string PlanMpiRankfile(const Plan& plan) {
  std::string text;
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    absl::StrAppend(&text, "rank ", rank, "=", MpiHost(plan.ranks[rank]), " slot=*\n");
  }
  return text;
}

absl::StatusOr<std::string> PlanMpiHostfile(const Plan& plan) {
  std::string text;
  std::set<std::string> done;
  for (int rank = 0; rank < plan.world_size();) {
    const std::string host = MpiHost(plan.ranks[rank]);
    if (!done.insert(host).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the ranks of ", host,
                       " are not one after the other, which a hostfile cannot say; take "
                       "the rankfile"));
    }
    int slots = 0;
    while (rank < plan.world_size() && MpiHost(plan.ranks[rank]) == host) {
      ++slots;
      ++rank;
    }
    absl::StrAppend(&text, host, " slots=", slots, "\n");
  }
  return text;
}

}  // namespace tprun
